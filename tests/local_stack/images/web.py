"""The program of the test pods: answers GET with its version and process id, and drains as a good server does."""

from __future__ import annotations

import http.server
import os
import signal
import sys
import threading
import time

ready_after = time.monotonic() + float(os.environ.get("READY_AFTER", "0"))
draining = threading.Event()
alive = threading.Event()
alive.set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, body = 200, f"{os.environ['VERSION']} {os.getpid()}"
        if self.path == "/readyz" and (draining.is_set() or time.monotonic() < ready_after):
            status, body = 503, "not ready"
        if self.path == "/livez" and not alive.is_set():
            status, body = 500, "dead"
        if self.path == "/die":
            alive.clear()
        if self.path == "/exit":
            os._exit(7)
        if self.path == "/env":
            body = "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if draining.is_set():
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


server = Server((os.environ["HOST"], int(os.environ["PORT"])), Handler)


def drain(_number: int, _frame: object) -> None:
    draining.set()
    threading.Timer(0.3, server.shutdown).start()


signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("STUBBORN") else drain)
sys.stdout.write(" ".join(["serving", os.environ["VERSION"], *sys.argv[1:]]) + "\n")
sys.stdout.flush()
server.serve_forever(0.02)
