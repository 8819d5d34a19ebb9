"""Pictures to vectors, in processes that can be ended: none of a decoder's costs are the server's.

`PictureProcesses` is the door; `child.py` is what such a process runs.
"""

from search_server.pictures.processes import PictureProcesses

__all__ = ["PictureProcesses"]
