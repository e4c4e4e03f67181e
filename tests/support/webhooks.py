"""Receivers of webhooks on this machine: some accept, others fail in the ways that receivers fail."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Webhooks:
    """A server whose paths behave differently: ``/accept``, ``/error``, ``/gone``, ``/busy``, ``/elsewhere``,
    ``/hang``, ``/drip`` and ``/until``.

    :ivar requests: each request, with its path and body, in their order.
    :ivar keys: the paths, each with the Idempotency-Key of every request to it.
    :ivar until: ``/until`` accepts a request when this is true.
    """

    port: int
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    keys: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    closing: threading.Event = field(default_factory=threading.Event)
    until: Callable[[], bool] = lambda: True

    def url(self, path: str) -> str:
        """The address of a path; it contains a secret."""
        return f"http://127.0.0.1:{self.port}{path}?token=canary-token"

    def received(self, path: str) -> list[dict[str, Any]]:
        """The bodies that a path was sent."""
        return [body for at, body in self.requests if at == path]


@contextmanager
def webhooks() -> Iterator[Webhooks]:
    """A server for the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            found.requests.append((path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            found.keys[path].append(self.headers["Idempotency-Key"])
            if path == "/drip":
                self._drip()
                return
            while (path == "/hang" or (path == "/until" and not found.until())) and not found.closing.wait(0.05):
                pass
            self.send_response({"/error": 500, "/elsewhere": 302, "/gone": 410, "/busy": 429}.get(path, 200))
            if path == "/elsewhere":
                self.send_header("Location", f"http://localhost:{found.port}/stolen")
            self.end_headers()

        def _drip(self) -> None:
            """An answer that never ends, of which each piece arrives in time."""
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            with suppress(OSError):  # the sender has ended the connection
                while not found.closing.wait(0.05):
                    self.wfile.write(b"x")

        def do_GET(self) -> None:
            found.requests.append((self.path.partition("?")[0], {}))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Webhooks(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            found.closing.set()
            server.shutdown()
            thread.join()
