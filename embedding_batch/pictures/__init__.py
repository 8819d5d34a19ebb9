"""The bytes of pictures by their URIs: files, objects of buckets, and URLs, whose hosts are asked politely.

`fetch` is the door. How hosts are treated is said by `Politeness`; how it is kept: `politeness` (pace, as values),
`robots`, `answers` (what an answer means), `hosts` (what waits, and until when), `web` (the connections).
"""

from embedding_batch.pictures.fetching import fetch
from embedding_batch.pictures.picture import Fetched, Picture
from embedding_batch.pictures.politeness import Politeness

__all__ = ["Fetched", "Picture", "Politeness", "fetch"]
