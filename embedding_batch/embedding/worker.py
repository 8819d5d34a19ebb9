"""A worker: ``python worker.py <descriptor>``; at the socket's other end is `processes.py`.

It gets the work as a value, answers None once it has opened that, then gets chunks of tasks and answers each with its
results; text is the stack of what went wrong. It ends when its parent does, whatever it is at: a thread reads ahead and
meets the end of the socket.

Run by its path, it reads before it has loaded anything large: its parent, which has others to serve, needn't wait.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread


def main(descriptor: int) -> None:
    """Work until the parent is gone."""
    connection = Connection(descriptor)
    received: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read_ahead, args=(connection, received), daemon=True).start()
    try:
        work = pickle.loads(received.get()).open()  # noqa: S301 - from the parent
        connection.send(None)
        while True:
            chunk = pickle.loads(received.get())  # noqa: S301
            connection.send([work(task) for task in chunk])
    except Exception:  # noqa: BLE001 - the parent raises it
        with suppress(OSError):  # the parent is gone
            connection.send(traceback.format_exc())


def _read_ahead(connection: Connection, received: SimpleQueue[bytes]) -> None:
    try:
        while True:
            received.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
