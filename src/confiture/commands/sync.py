"""``sync``: copy the rows of one database into another one, chosen and masked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from confiture import config
from confiture.commands.databases import source_of
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.commands.holding import storing_blocks
from confiture.commands.hooks import announced
from confiture.config import Database
from confiture.copy.throttle import Throttle
from confiture.errors import Refused, UsageError
from confiture.journal import runs, schema
from confiture.journal.model import Run
from confiture.postgres.session import Session
from confiture.runner.begin import begun, exclusively, refuse_other_medium
from confiture.runner.lease import hold, runner_sessions
from confiture.runner.progress import Progress
from confiture.schema_to_schema import jobs as worker_jobs
from confiture.schema_to_schema import setup
from confiture.schema_to_schema.preconditions import databases
from confiture.states import SYNC
from confiture.sync import ending, refusals, working
from confiture.sync.outcome import SyncPlan, SyncReport, TablePlanned, columns
from confiture.sync.planning import Planned
from confiture.sync.proposal import propose
from confiture.sync.request import MASK_FILE, Request
from confiture.types import shell_word
from confiture.yaml_nodes import read_text

#: Names with commas between them; a quoted name may contain a comma.
_NAMES = re.compile(r'(?:[^",]|"(?:[^"]|"")*")+')
#: Asks the operator to confirm, given the name of the database and the tables with rows that are emptied.
Confirm = Callable[[str, Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """The options of ``sync`` that do not decide what is copied.

    :ivar replace: empty the tables of the sync first.
    :ivar restart: abandon a sync that is not completed, and begin again.
    :ivar jobs: chunks that are copied at the same time; None for one per core.
    """

    replace: bool = False
    restart: bool = False
    jobs: int | None = None
    throttle: Throttle = field(default_factory=Throttle)


def request(
    project: Path,
    tables: Sequence[str],
    where: Sequence[str],
    sample: float | None,
    mask: Path | None,
    allowed: Sequence[str],
    *,
    consistent: bool,
) -> Request:
    """The request of a command line.

    :param tables: each one name, or several with commas between them.
    :param mask: the mask file; None for the one of the project, if it has one.
    :raises UsageError: when the mask file cannot be read.
    """
    own = project / MASK_FILE
    path = mask if mask is not None else own if own.is_file() else None
    text = "" if path is None else read_text(path, "mask file")
    # A text without a name is a fault: an empty variable of a script would stand for all tables.
    names = (name.strip() for given in tables for name in _NAMES.findall(given) or [given])
    return Request(tuple(names), tuple(where), sample, text, str(path or ""), tuple(allowed), consistent)


def execute(
    where: Endpoints, request: Request, options: SyncOptions, confirm: Confirm, progress_: Progress
) -> SyncReport:
    """Copy the rows into the target. Each chunk is durable when it is reported as done.

    A sync that was killed is continued by the same command. A sync that is completed begins again only with
    ``replace``.

    :param confirm: called before tables with rows are emptied; raises to stop.
    :raises Refused: when the target is protected, is the source, or has rows that are not to be replaced.
    :raises DifferencesFound: when a clear value is found in a masked column.
    """
    target = _target(where)
    worker_jobs.prepare(options.jobs, None)
    with translated("sync"):
        live = _live(target)
        source = _source(where, live)
        if live is not None and options.restart:
            _end(where, source_of(live, replace(where, source=None)), target, live, progress_)
            live = None
        planned = None
        if live is None or live.plan is None:
            planned = _planned(source, target, request, options, confirm)
        run = live or _begun(source, target, request)
        _refuse_other(run, source, request)
        with (
            runner_sessions(source, target, run) as (src, tgt),
            hold(src, tgt, run, "sync", progress_, announced(where.hooks)) as context,
            storing_blocks(context, "sync", where),
        ):
            return working.work(context, planned, request, options.jobs, options.throttle)


def look(where: Endpoints, request: Request, options: SyncOptions) -> SyncPlan:
    """What :func:`execute` would do now; nothing is changed, and no row is copied."""
    target = _target(where)
    with translated("sync"):
        live = _live(target, look=True)
        source = _source(where, live)
        if live is not None and not options.restart:
            _refuse_other(live, source, request)
            options = replace(options, replace=True)  # its rows are those of the sync
        found = _planned(source, target, request, options, lambda name, tables: None)
    tables = (
        TablePlanned(str(t.target), t.estimate, found.selections[t.source].reason, t.where) for t in found.plan.tables
    )
    return SyncPlan(tuple(tables), columns(found.plan, found.masks), found.notes)


def abort(where: Endpoints, progress_: Progress) -> Run:
    """End a sync that is not completed: its tables are emptied, and everything on them is as declared.

    :raises Refused: when the target has no such sync.
    """
    target = _target(where)
    with translated("sync"):
        live = _live(target)
        if live is None:
            raise Refused(
                "there is no sync to abort", why=f"{target.name} has no sync that is not completed", fix=_begin(where)
            )
        return _end(where, _source(where, live), target, live, progress_)


def _begin(where: Endpoints) -> str:
    return f"begin one: confiture sync --from SOURCE --to {shell_word(where.naming.target)}"


def _target(where: Endpoints) -> Database:
    target = config.resolve(where.target, where.project)
    refusals.refuse_protected(target, where.project)
    return target


def _source(where: Endpoints, live: Run | None) -> Database:
    if where.source is None and live is None:
        raise UsageError(
            "no source is named", why=f"{where.target} has no sync that is not completed", fix=_begin(where)
        )
    return source_of(live, where) if live is not None else config.resolve(where.source or "", where.project)


def _live(target: Database, *, look: bool = False) -> Run | None:
    """The sync of the target that is not completed; None when it has no live run.

    :param look: change nothing; refuse an older journal.
    :raises Refused: when the target's live run is of another kind, or a newer version wrote the journal.
    """
    with Session(target, "command") as session:
        if not look:
            schema.keep_up(session)
        with session.transaction(read_only=True) as tx:
            have = schema.version(tx)
            schema.refuse_newer(have)
            schema.refuse_older(have)
            run = runs.live(tx) if have else None
    if run is not None:
        refuse_other_medium(run, SYNC)
    return run


def _planned(source: Database, target: Database, request: Request, options: SyncOptions, confirm: Confirm) -> Planned:
    """The plan of the sync, after everything that can be refused before it begins."""
    here, there = setup.identity_of(source), setup.identity_of(target)
    refusals.refuse_same(here, there)
    refusals.refuse_standby(there)
    refusals.refuse_without_temporary(there)
    with Session(target, "plan") as session:
        databases.refuse_read_only(session)
        with session.transaction(read_only=True) as tx:
            filled = refusals.filled(tx)
            refusals.refuse_source_of_a_run(tx)
        refusals.refuse_rows(there, filled, replace=options.replace)
        planned = propose(source, session, request)
    of_sync = {t.target for t in planned.plan.tables}
    refusals.refuse_outside_references(planned.target, planned.emptied, of_sync, filled)
    if filled:
        confirm(there.database, [str(ref) for ref in filled if ref in planned.emptied])
    return planned


def _begun(source: Database, target: Database, request: Request) -> Run:
    with exclusively(target) as session:
        return begun(session, SYNC, source, setup.identity_of(source), target, request.as_json())


def _refuse_other(run: Run, source: Database, request: Request) -> None:
    """:raises Refused: when the run has another source or other options than this command."""
    known, found = run.source_identity, setup.identity_of(source)
    if (known["system_identifier"], known["oid"]) != (found.system_identifier, found.oid):
        raise Refused(
            f"sync {run.short} of {run.target_name} is not completed, and began with another source",
            why=f"it reads {known['database']} of server {known['system_identifier']}, and --from names"
            f" {found.database} of server {found.system_identifier}",
            fix="leave out --from to continue it, or add --restart to abandon it and begin again",
        )
    different = list(request.differences(run.options))
    if different:
        raise Refused(
            f"sync {run.short} of {run.target_name} is not completed, and began with other options",
            why="\n".join(different),
            fix="continue it with its own options, or add --restart to abandon it and begin again",
        )


def _end(where: Endpoints, source: Database, target: Database, live: Run, progress_: Progress) -> Run:
    with (
        runner_sessions(source, target, live) as (src, tgt),
        hold(src, tgt, live, "abort", progress_, announced(where.hooks)) as context,
    ):
        ending.abort(context)
        return context.run()
