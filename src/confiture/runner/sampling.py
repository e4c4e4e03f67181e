"""Samples of a run over time, for the curves of the page. They are taken beside the run and never delay it.

A sample is one short transaction in the session of the heartbeat, after the lease is renewed. Its timeout is shorter
than the time between two heartbeats, so that a sample that has to wait does not cost the lease.
"""

from __future__ import annotations

import uuid

import psycopg

from confiture.config import redact
from confiture.errors import ConfitureError
from confiture.journal import samples
from confiture.log import log
from confiture.postgres.session import Session
from confiture.runner.disk_watch import DiskWatch

#: Samples between two thinnings, the first of which is before the first sample of a command.
THIN_EVERY = 60


class Sampler:
    """Takes the samples of one runner.

    :param session: to the target; no other thread uses it.
    :ivar works: whether the last sample was taken.
    """

    def __init__(self, session: Session, run_id: uuid.UUID, epoch: int) -> None:
        self._session, self._run, self._epoch = session, run_id, epoch
        self._disk = DiskWatch(session, run_id, epoch)
        self._taken = 0
        self._reported = False
        self.works = True

    def take(self) -> None:
        """Take a sample, and look at the disk; an error is logged once."""
        try:
            with self._session.transaction() as tx:
                if self._taken % THIN_EVERY == 0:
                    samples.thin(tx, self._run)
                samples.take(tx, self._run, self._epoch)
            self._taken += 1
            self.works = True
        except (psycopg.Error, ConfitureError) as error:
            self.works = False
            if not self._reported:
                self._reported = True
                log.info("no sample for the page", why=redact(str(error)))
        if self.works:
            self._disk.look()
