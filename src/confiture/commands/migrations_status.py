"""``migrate status``: where each migration stands, by the files and the ledger. Nothing is written."""

from __future__ import annotations

from confiture import config
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.commands.migrations import read
from confiture.incremental.standing import Standing
from confiture.journal import leases, ledger, runs, schema
from confiture.migrations.outcomes import Report
from confiture.postgres.session import Session, Transaction
from confiture.states import MIGRATIONS


def report(where: Endpoints) -> Report:
    """The standing of each migration; works without a ledger, and on a standby.

    :raises FaultyInput: when the files have faults.
    """
    target = config.resolve(where.target, where.project)
    with translated("migrate status"):
        every = read(target, where.project)
        with Session(target, "status") as session, session.transaction(read_only=True) as tx:
            unfinished = [each.version for each in every if each.standing is Standing.UNFINISHED]
            done = {version: sum(one.done for one in ledger.progress(tx, version)) for version in unfinished}
            return Report(target.name, every, done, _at_work(tx))


def _at_work(tx: Transaction) -> str | None:
    have = schema.version(tx)
    run = runs.latest(tx, MIGRATIONS) if have == schema.newest() else None
    holder = leases.holder(tx, run.id) if run is not None else None
    if holder is None or holder.lapsed:
        return None
    return f"{holder.host} pid {holder.pid} ({holder.command})"
