"""Loopback addresses for pods: one each, so that all of them can listen on the port that the manifest names."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from itertools import cycle

from model_repository.errors import PermanentError

_LAST = 254


class NoPodAddresses(PermanentError):
    """This machine gives pods no addresses of their own."""

    code = "no-pod-addresses"


class Addresses:
    """Addresses 127.x.y.1 to 127.x.y.254 in turn; x and y are drawn for each cluster."""

    def __init__(self) -> None:
        drawn = random.Random()  # noqa: S311 - keeps clusters apart, no secret
        self.network = f"127.{drawn.randint(16, 126)}.{drawn.randint(0, 255)}"
        self._last = cycle(range(1, _LAST + 1))
        if not _free(f"{self.network}.1", [0]):
            raise NoPodAddresses(
                f"can't bind {self.network}.1: the local cluster gives every pod an address in 127.0.0.0/8, which "
                "works on Linux; macOS only has 127.0.0.1 (run it in a Linux virtual machine)"
            )

    def take(self, ports: Iterable[int]) -> str:
        """An address on which `ports` are free now; raises `NoPodAddresses`."""
        wanted = list(ports)
        for _ in range(_LAST):
            address = f"{self.network}.{next(self._last)}"
            if _free(address, wanted):
                return address
        raise NoPodAddresses(f"ports {wanted} are in use on all of {self.network}.1-{_LAST}")


def _free(address: str, ports: Iterable[int]) -> bool:
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
