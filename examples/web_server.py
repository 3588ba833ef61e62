"""A small web server on this machine, for the download example to fetch from."""

import signal
import sys
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LATENCY = 0.02


class UnhurriedRequestHandler(SimpleHTTPRequestHandler):
    """Serves files, after a wait such as a server on the internet has."""

    def do_GET(self) -> None:
        time.sleep(LATENCY)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its name there
        """Say nothing: the demo's progress has the terminal."""


class WebServer(ThreadingHTTPServer):
    """A thread a request; a queue long enough that no connection of the demo is turned away."""

    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a client that went away in the middle, as clients may."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(folder: Path, port: Connection) -> None:
    """Serve ``folder`` on a free port, send the port's number, and go on until terminated."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demo, which then ends us
    handler = partial(UnhurriedRequestHandler, directory=str(folder))
    with WebServer(("127.0.0.1", 0), handler) as server:
        port.send(server.server_port)
        port.close()
        server.serve_forever()
