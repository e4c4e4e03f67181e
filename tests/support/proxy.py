"""A TCP proxy in front of a server, which stalls, drops and delays connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

#: SO_LINGER with a timeout of zero, so that closing the socket sends a reset.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._stalled: set[socket.socket] = set()
        self.delay = 0.0
        #: Whether new connections are accepted and never answered.
        self.silent = False
        #: Whether a stalled connection stays open on the other side after one side has closed it.
        self.keeps_other_side_open = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client = self._listening.accept()[0]
                if self.silent:
                    self._pairs.append((client, client))
                    continue
                server = socket.create_connection(("127.0.0.1", self._to))
                self._pairs.append((client, server))
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if one in self._stalled:
                    continue  # acknowledged and discarded
                time.sleep(self.delay)
                other.sendall(data)
        if one not in self._stalled or not self.keeps_other_side_open:
            for end in (one, other):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Acknowledge and discard the packets of the present connections. New connections work."""
        self._stalled.update(end for pair in self._pairs for end in pair)

    def drop(self) -> None:
        """Reset the present connections."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from the socket
                end.close()
        self._pairs.clear()

    def close(self) -> None:
        """Close the proxy and its connections."""
        self._listening.close()
        self.drop()
