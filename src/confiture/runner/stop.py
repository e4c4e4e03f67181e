"""Signals: the first one asks a command to stop between two units of work, the second one interrupts it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from confiture.errors import Drained
from confiture.failpoints import failpoint


class Stop:
    """The signal that a command has received; read between chunks.

    The first SIGINT, SIGTERM or SIGHUP drains; the second cancels the running query and exits. A SIGHUP that is
    ignored (``nohup``) stays ignored.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside the block (main thread only)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heeded.append(signal.SIGHUP)
        before = {s: signal.signal(s, self._heard) for s in heeded}
        try:
            yield
        except KeyboardInterrupt:
            raise self.drained() from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            # psycopg cancels the query in flight when it is interrupted.
            raise KeyboardInterrupt
        self.signal_number = number
        failpoint("signal.heard")

    def drained(self) -> Drained:
        """The error that ends a command after a signal."""
        number = self.signal_number or signal.SIGINT
        return Drained(
            f"stopped by {signal.Signals(number).name}; completed work is kept",
            signal_number=number,
            fix="run the same command again to continue",
        )
