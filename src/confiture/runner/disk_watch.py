"""The disk of the target is watched beside the run: when it will be full before the end, an event is appended once."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict

import psycopg

from confiture.config import redact
from confiture.errors import ConfitureError
from confiture.journal.disk import disk_now
from confiture.journal.growth import free_bytes, grown
from confiture.journal.runs import actor
from confiture.journal.samples import TIMEOUTS
from confiture.log import log
from confiture.postgres.session import Session
from confiture.sql import load

#: Looks of the runner, each after a sample, of which one looks at the disk.
LOOK_EVERY = 6


class DiskWatch:
    """Watches the disk of one run.

    :param session: to the target; no other thread uses it.
    """

    def __init__(self, session: Session, run_id: uuid.UUID, epoch: int) -> None:
        self._session, self._run, self._epoch = session, run_id, epoch
        self._looks = 0
        self._warned = self._reported = False

    def look(self) -> None:
        """Look at the disk in one of :data:`LOOK_EVERY` calls; an error is logged once."""
        self._looks += 1
        if self._warned or self._looks % LOOK_EVERY != 1:
            return
        try:
            self._look()
        except (psycopg.Error, ConfitureError) as error:
            if not self._reported:
                self._reported = True
                log.info("the disk is not watched", why=redact(str(error)))

    def _look(self) -> None:
        # Durable: the event, which another runner has not written.
        with self._session.transaction() as tx:
            tx.pg.execute(TIMEOUTS)
            found = grown(tx, self._run)
            if found is None:
                self._warned = True  # there is nothing to compare with
                return
            now = disk_now(found, free_bytes(tx))
            if now.problem is None:
                return
            detail = json.dumps({**asdict(now), "reason": now.problem})
            parameters = {"run": self._run, "epoch": self._epoch, "actor": actor(), "detail": detail}
            tx.pg.execute(load("forecast.sql")["warn"], parameters)
        self._warned = True
