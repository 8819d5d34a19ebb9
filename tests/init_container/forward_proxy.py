"""A proxy as an environment names one: it forwards tunnels."""

from __future__ import annotations

import socket
import threading


class Proxy:
    """An HTTP proxy that knows CONNECT."""

    def __init__(self, answer: str = "200 Connection established", to: str = "") -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://someone:secret@127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += client.recv(1000)
        self.asked.append(said.decode())
        client.sendall(f"HTTP/1.1 {self._answer}\r\n\r\n".encode())
        host, _, port = (self._to or said.split()[1].decode()).rpartition(":")
        if not self._answer.startswith("200"):
            client.close()
            return
        server = socket.create_connection((host, int(port)))
        threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
        self._copy(server, client)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()
