"""HTTP to servers on this machine.

A client of httpx loads the authorities of the web when it is made, which takes 70 ms of a processor; these don't.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import httpx

get: Final = partial(httpx.get, verify=False)
post: Final = partial(httpx.post, verify=False)
Client: Final = partial(httpx.Client, verify=False)
