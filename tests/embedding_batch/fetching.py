"""Pictures fetched in one go, for tests of what becomes of them."""

from __future__ import annotations

from embedding_batch.pictures import Fetched, Picture, Politeness, fetch
from model_repository.bucket.store import Store
from tests.embedding_batch.picture_host import Arrival, PictureHost

QUICK = Politeness(requests_a_second=1000, longest_pause=1.0, whole_seconds=60.0)
"""For tests of something else than the pace."""


def no_bucket(name: str) -> Store:
    raise AssertionError(name)


def fetched(*pictures: Picture | str, politeness: Politeness = QUICK, **changes: object) -> dict[str, Fetched]:
    asked = [picture if isinstance(picture, Picture) else Picture(picture, None) for picture in pictures]
    open_bucket = changes.get("open_bucket", no_bucket)
    found = list(fetch(asked, politeness=politeness, open_bucket=open_bucket))  # type: ignore[arg-type]
    assert sorted(one.picture.uri for one in found) == sorted(picture.uri for picture in asked)
    return {one.picture.uri: one for one in found}


def the_one(picture: Picture | str, politeness: Politeness = QUICK, **changes: object) -> Fetched:
    (found,) = fetched(picture, politeness=politeness, **changes).values()
    return found


def reason(picture: Picture | str, politeness: Politeness = QUICK, **changes: object) -> str:
    found = the_one(picture, politeness, **changes)
    assert (found.data, found.sha256) == (None, None)
    assert found.reason is not None
    return found.reason


def pictures_asked(host: PictureHost) -> list[Arrival]:
    return [arrival for arrival in host.arrivals if arrival.path != "/robots.txt"]
