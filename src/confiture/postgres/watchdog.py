"""Connections that stall: a proxy in between continues to acknowledge, and nothing reaches the server.

A peer that has vanished is found by keepalives and ``tcp_user_timeout``. A proxy, tunnel or load balancer that lost its
other side is not: it answers both, and libpq would wait forever. So a connection that has waited for an
answer while no byte came or went is checked over a new one. Where the new one gets no answer either, or the server
reports that it has answered or waits for its client, the connection is shut, which its user sees as a lost one. Its
server process is ended, because it would keep its locks.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-TCP-USER-TIMEOUT
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo

from confiture.log import log

#: Seconds without a byte either way after which the server is asked; with both looks and their answers it is noticed
#: within half a minute.
QUIET_SECONDS = 12.0
LOOK_SECONDS = 2.0
#: Seconds for the new connection and its answer.
ANSWER_SECONDS = 6.0

#: ``tcpi_last_data_sent`` and ``tcpi_last_data_recv`` in Linux's ``struct tcp_info``, in milliseconds.
_TCP_INFO, _SENT_AT, _RECEIVED_AT = getattr(socket, "TCP_INFO", None), 44, 52

#: Whether it is at work, and whether on something that it has asked another server for. A session without work
#: waits for its client; its ``state`` is not available where ``track_activities`` is off.
_WORKS = (
    "SELECT wait_event_type IS DISTINCT FROM 'Client', wait_event_type IS NOT DISTINCT FROM 'Extension'"
    " FROM pg_catalog.pg_stat_activity"
)
#: Whether a foreign table's session of our role is at work here; each FETCH is a query of its own. Only a hint: a
#: session that merely bears the name delays the finding of a stalled connection, nothing else.
_ASKED_TO = (
    "SELECT count(*) > 0 FROM pg_catalog.pg_stat_activity WHERE usename = session_user"
    " AND application_name ~ '^confiture .* fdw$'"
    " AND (wait_event_type IS DISTINCT FROM 'Client' OR query_start > now() - make_interval(secs => %s))"
)
_OURS = " WHERE (pid, application_name) = (%s, %s)"
_END = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"


T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class _Peer:
    """The server's address and the process that serves the connection: a closed connection no longer shows them."""

    parameters: tuple[tuple[str, str], ...]
    address: tuple[str, int, str]
    pid: int
    name: str | None


class Watched(psycopg.Connection[tuple[Any, ...]]):
    """A connection that shows whether it waits for the server.

    :ivar waits: whether it does.
    """

    waits = False
    _peer: _Peer

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Mark the connection as waiting, and wait. Called for each row of a COPY, so it does no more."""
        self.waits = True
        try:
            return _wait(self, gen, interval, timeout)
        finally:
            self.waits = False


_wait = psycopg.Connection.wait
_watched: weakref.WeakSet[Watched] = weakref.WeakSet()
_starting = threading.Lock()
_thread: threading.Thread | None = None


def watch(connection: Watched) -> None:
    """Shut the connection when it stalls; for connections over TCP, on Linux."""
    global _thread
    if _TCP_INFO is None or connection.info.host.startswith("/"):
        return
    info = connection.info
    connection._peer = _Peer(
        (*info.get_parameters().items(), ("password", info.password)),
        (info.host, info.port, info.dbname),
        info.backend_pid,
        info.parameter_status("application_name"),
    )
    with _starting:
        _watched.add(connection)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_look, name="watchdog", daemon=True)
            _thread.start()


def _look() -> None:
    suspects: set[_Peer] = set()
    while True:
        time.sleep(LOOK_SECONDS)
        silent: set[tuple[str, int, str]] = set()
        found: set[_Peer] = set()
        for connection in list(_watched):
            # It was closed in between: nothing is left to shut.
            with contextlib.suppress(psycopg.Error, OSError):  # TimeoutError is an OSError
                if connection.waits and _is_stalled(connection, silent):
                    found.add(connection._peer)
                    if connection._peer in suspects:  # an answer may have been on its way: seen twice it was not
                        _shut(connection)
        suspects = found


def _is_stalled(connection: Watched, silent: set[tuple[str, int, str]]) -> bool:
    """:param silent: addresses that gave no answer in this round: they are not asked for each connection."""
    return _quiet_seconds(connection) >= QUIET_SECONDS and not _works(connection._peer, silent)


def _shut(connection: Watched) -> None:
    peer = connection._peer
    log.info("a connection stalled", database=peer.address[2], pid=peer.pid)
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as shut:
        shut.shutdown(socket.SHUT_RDWR)
    _answer(peer, _END + _OURS, peer.pid, peer.name)


def _quiet_seconds(connection: Watched) -> float:
    """For how long no byte has come or gone, as the kernel knows it."""
    assert _TCP_INFO is not None
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as tcp:
        known = tcp.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RECEIVED_AT + 4)
    sent, received = (struct.unpack_from("=I", known, at)[0] for at in (_SENT_AT, _RECEIVED_AT))
    return float(min(sent, received)) / 1000


def _works(peer: _Peer, silent: set[tuple[str, int, str]]) -> bool:
    """Whether the server is working on the statement that the connection waits for, as far as it can be determined."""
    if peer.address in silent:
        return False
    try:
        works, asks = _answer(peer, _WORKS + _OURS, peer.pid, peer.name) or (False, False)
        if not asks:
            return bool(works)
        others = {other._peer.address: other._peer for other in list(_watched) if not other.closed}
        others.pop(peer.address, None)
        return not others or any(_answer(other, _ASKED_TO, QUIET_SECONDS) == (True,) for other in others.values())
    except TimeoutError:
        silent.add(peer.address)
        return False
    except psycopg.Error as error:
        return "FATAL" in str(error)  # it answers, but rejects connections: its state is unknown


def _answer(peer: _Peer, question: str, *values: object) -> tuple[Any, ...] | None:
    return asyncio.run(asyncio.wait_for(_asked(peer, question, values), ANSWER_SECONDS))


async def _asked(peer: _Peer, question: str, values: Sequence[object]) -> tuple[Any, ...] | None:
    conninfo = make_conninfo(**{**dict(peer.parameters), "application_name": "confiture watchdog"})
    probe = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    async with probe:
        asked = await probe.execute(question.encode(), values)
        return await asked.fetchone()
