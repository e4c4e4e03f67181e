"""Remove one safeguard at a time, and check that a test fails: ``make mutants``.

Each mutant is a copy of the program with one broken rule, and the tests that must detect it. If a mutant survives, no
test covers its rule.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src", "tests", "migrations_state", "docs", "examples", "pyproject.toml", "README.md", "CHANGELOG.md")


@dataclass(frozen=True)
class Mutant:
    """A rule, the change that breaks it, and the tests that must detect the change.

    :ivar rule: the rule that is broken.
    :ivar path: the file, relative to ``src/confiture``.
    :ivar old: the text that implements the rule, which occurs exactly once in the file.
    :ivar tests: arguments of pytest. At least one of the selected tests must fail.
    :ivar too: further changes (path, old, new), where a second safeguard enforces the same rule.
    """

    rule: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    too: tuple[tuple[str, str, str], ...] = ()


def _in(folder: str, file: str, only: str = "") -> tuple[str, ...]:
    return (f"tests/{folder}/test_{file}.py", *(("-k", only) if only else ()))


#: Reads the storage as the snapshot sees it. The function would read its present value.
_OLD_STORAGE = (
    "sql/fingerprint.sql",
    "pg_relation_filenode(m.oid)",
    "(SELECT r.relfilenode FROM pg_class r WHERE r.oid = m.oid)",
)

#: Combines the rows of a range by an exclusive OR.
_COMBINED_BY_XOR = (
    "sql/checksum.sql",
    "coalesce(sum({first}), 0)::text, coalesce(sum({second}), 0)::text",
    "coalesce(bit_xor({first}), 0)::text, coalesce(bit_xor({second}), 0)::text",
)

MUTANTS = (
    Mutant(
        "the fence on the target",
        "journal/runs.py",
        'if tx.sa.execute(_FENCE, {"run_id": run_id, "of_runner": epoch}).one_or_none() is None:',
        'if tx.sa.execute(_FENCE, {"run_id": run_id, "of_runner": epoch}).one_or_none() is None and False:',
        _in("integration", "resume", "zombie"),
    ),
    Mutant(
        "the fence on the source",
        "journal/source.py",
        "    if tx.pg.execute(query).fetchone() is None:",
        "    if tx.pg.execute(query).fetchone() is None and False:",
        _in("integration", "resume", "zombie"),
    ),
    Mutant(
        "a takeover ends the backends of the previous runner",
        "runner/context.py",
        "        terminate(tx.pg, backends)",
        "        pass",
        _in("integration", "resume", "frozen"),
    ),
    Mutant(
        "a chunk and its checkpoint are one commit",
        "copy/chunks.py",
        "            seconds = time.monotonic() - began\n",
        '            seconds = time.monotonic() - began\n            target.pg.execute("COMMIT; BEGIN")\n',
        _in("acceptance", "kill", "killed_copy"),
    ),
    Mutant(
        "the key is built before its table counts as copied",
        "schema_to_schema/rebuild.py",
        "        owner = owners.get((item.table, item.name), of_index.get(item.parent))",
        "        owner = of_index.get(item.parent)",
        _in("integration", "late_indexes", "counts_as_copied"),
    ),
    Mutant(
        "a restarted table is copied without its indexes",
        "schema_to_schema/plan_store.py",
        "if not before or t.target in again]",
        "if not before]",
        _in("integration", "late_indexes", "restarted_table"),
    ),
    Mutant(
        "an index is restored with its marks",
        "schema_to_schema/deferred_objects/indexes.py",
        "    if item.clustered:\n",
        "    if False:\n",
        _in("integration", "late_indexes", "as_declared_after"),
    ),
    Mutant(
        "lock before snapshot",
        "runner/context.py",
        '        tx.pg.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(lock))\n        yield tx',
        '        tx.pg.execute("SELECT 1 FROM pg_class LIMIT 1")\n'
        '        tx.pg.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(lock))\n        yield tx',
        _in("integration", "snapshots", "chunk"),
        too=(_OLD_STORAGE,),
    ),
    Mutant(
        "lock before snapshot, in a pass",
        "capture/apply.py",
        "            # Lock, then snapshot: an older",
        '            source.pg.execute("SELECT 1 FROM pg_class LIMIT 1")\n            # Lock, then snapshot: an older',
        _in("integration", "snapshots", "pass"),
        too=(_OLD_STORAGE,),
    ),
    Mutant(
        "the fingerprint is checked where rows are read",
        "copy/run_table.py",
        "        fingerprint.refuse_unreadable(tx, job.schema, job.side, tables)\n",
        "",
        _in("integration", "resume", "ddl"),
    ),
    Mutant(
        "a check without locks sees the log of a TRUNCATE that it waited for",
        "schema_to_schema/verify.py",
        "session.transaction(read_only=True) as tx:\n"
        "        fingerprint.refuse_changed(tx, context.schema, side, kinds)",
        "session.transaction(read_only=True) as tx:\n"
        "        tx.pg.execute('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ')\n"
        "        fingerprint.refuse_changed(tx, context.schema, side, kinds)",
        _in("integration", "snapshots", "truncate_that_a_check"),
    ),
    Mutant(
        "a target that lost changes is not opened",
        "schema_to_schema/cutover.py",
        "    if switchover.lacks_closing(context, FORWARD):\n",
        "    if False:\n",
        _in("integration", "restored", "target_that_lost_changes"),
    ),
    Mutant(
        "a source that lost changes is not opened",
        "schema_to_schema/rollback.py",
        "    if switchover.lacks_closing(context, REVERSE):\n",
        "    if False:\n",
        _in("integration", "restored", "source_that_lost_changes"),
    ),
    Mutant(
        "the closing has its number on both sides",
        "schema_to_schema/cutover.py",
        "    run_schema.set_last_pass(source, context.schema, number)\n",
        "",
        _in("integration", "restored", "target_that_lost_nothing"),
    ),
    Mutant(
        "after a restored target the epoch follows the fence",
        "runner/lease.py",
        "    return fence + 1 if fence > now + 1 else seen + 1\n",
        "    return seen + 1\n",
        _in("integration", "restored", "lost_time"),
    ),
    Mutant(
        "the end of a rollback names the readers that block it",
        "schema_to_schema/rollback.py",
        '            wait_for_locks(context, "target", item.tables, partial(_off_again, context, item))\n',
        "            retry(partial(_off_again, context, item))\n",
        _in("integration", "blocking_readers", "rollback_whose_end"),
    ),
    Mutant(
        "the repair of a write block names the readers that block it",
        "schema_to_schema/cutover.py",
        "readers=ref in damaged",
        "readers=False",
        _in("integration", "blocking_readers", "repair_of_the_write_block"),
    ),
    Mutant(
        "a transform calls no volatile function",
        "plan/expressions.py",
        '        if volatility == "v":\n',
        "        if False:\n",
        _in("integration", "expressions", "value_may_change"),
    ),
    Mutant(
        "a transform calls no stable function outside of the list",
        "plan/expressions.py",
        '        if volatility == "s" and not allowed:\n',
        "        if False:\n",
        _in("integration", "expressions", "value_may_change"),
    ),
    Mutant(
        "a transform reads no other table",
        "plan/expressions.py",
        "    if shape[0]:\n",
        "    if False:\n",
        _in("integration", "expressions", "reads_another_table"),
    ),
    Mutant(
        "a transform is checked when its table changes its schema",
        "plan/expressions.py",
        "table = names.source_of(into, entry) if into is not None else None",
        'table = names.find(source, "source", entry.source or entry.target)',
        _in("integration", "expressions", "changes_its_schema"),
    ),
    Mutant(
        "a claimed chunk is skipped",
        "journal/chunks.py",
        "chunk.c.status != ChunkStatus.DONE).with_for_update(skip_locked=True)",
        "chunk.c.status != ChunkStatus.DONE)",
        _in("integration", "sessions", "claim_different"),
    ),
    Mutant(
        "a chunk that is copied in part is rolled back",
        "copy/chunks.py",
        "            if rows == limit:",
        "            if rows == limit and False:",
        _in("integration", "key_statistics", "far_more"),
    ),
    Mutant(
        "the values of a key are sorted in the collation of their column",
        "sql/key_statistics.sql",
        "SELECT 0::oid, {column}::{type}, 0::float8, 0::float8, 0 FROM {source} WHERE false",
        "SELECT 0::oid, NULL::{type}, 0::float8, 0::float8, 0 FROM {source} WHERE false",
        _in("integration", "key_statistics", "in_the_collation"),
    ),
    Mutant(
        "a worker without its runner writes nothing",
        "runner/context.py",
        "                leases.fence_worker(tx, self.run_id, self.epoch)",
        "                pass",
        _in("integration", "workers", "runner_has_ended"),
    ),
    Mutant(
        "the sessions of other workers stay recorded",
        "journal/leases.py",
        'return ours.op("||")(kept)',
        "return ours",
        _in("integration", "workers", "two_workers_copy"),
    ),
    Mutant(
        "a worker process ends with its runner",
        "runner/worker.py",
        "        os._exit(1)",
        "        pass",
        _in("integration", "workers", "killed_runner"),
    ),
    Mutant(
        "the chunk of a dead worker is copied again",
        "schema_to_schema/copy_tables.py",
        "            self._reload(table)\n        return done",
        "            self._reload(table)\n        return True",
        _in("integration", "workers", "costs_only"),
    ),
    Mutant(
        "legacy inheritance is refused with capture",
        "schema_to_schema/preconditions/capture.py",
        "    if table.inherits or table.inherited_from:\n",
        "    if False:\n",
        _in("integration", "sessions", "legacy_inheritance"),
    ),
    Mutant(
        "a copied table does not cause a compaction of all logs",
        "schema_to_schema/log_compaction.py",
        'a table is copied."""\n        self._chunks = 0\n',
        'a table is copied."""\n        self.now()\n',
        _in("integration", "many_tables"),
    ),
    Mutant(
        "a pass deletes no row of an inheritance child of the target",
        "capture/apply.py",
        "delete.format(table=job.target_rows,",
        "delete.format(table=job.target,",
        _in("integration", "sessions", "inherit_in_the_target"),
    ),
    Mutant(
        "commits are durable in their order",
        "postgres/profile.py",
        '    "synchronous_commit": "on",\n',
        "",
        _in("integration", "sessions", "commits_are_durable"),
    ),
    Mutant(
        "hashes that differ are not compared",
        "compare/checksum.py",
        'own if a == b else Hashing("md5", recode)',
        "own",
        _in("integration", "sessions", "different_hashes"),
    ),
    Mutant(
        "a reverse pass logs its keys again",
        "capture/reverse_apply.py",
        "        target.pg.execute(again)\n",
        "",
        _in("integration", "sessions", "logs_its_keys"),
    ),
    Mutant(
        "no statement is prepared on the server",
        "postgres/connection.py",
        "            prepare_threshold=None,\n",
        "",
        _in("integration", "sessions", "prepares_no_statement"),
    ),
    Mutant(
        "a source that lost its capture is detected",
        "capture/apply.py",
        "        if lacking:\n            raise Blocked(",
        "        if False:\n            raise Blocked(",
        _in("integration", "restored", "without_the_objects"),
    ),
    Mutant(
        "a row that is equal when it is read again is no difference",
        "schema_to_schema/verify.py",
        "        if not part.equal and job.table.number in self.live:\n",
        "        if found and job.table.number in self.live:\n",
        _in("integration", "suspects", "undone_before"),
    ),
    Mutant(
        "the old key of a row is logged when its key changes",
        "sql/capture.sql",
        "    ROW({old_key}) IS DISTINCT FROM ROW({new_key})",
        "    false",
        _in("integration", "capture", "change_after"),
    ),
    Mutant(
        "capture triggers fire always",
        "sql/capture.sql",
        "ENABLE ALWAYS TRIGGER",
        "ENABLE TRIGGER",
        _in("integration", "subscribed", "subscription_applies"),
    ),
    Mutant(
        "trigger functions run with the privileges of the run's role",
        "sql/capture.sql",
        "LANGUAGE plpgsql SECURITY DEFINER",
        "LANGUAGE plpgsql",
        _in("integration", "capture", "without_privileges"),
    ),
    Mutant(
        "the log's rows can be deleted under a publication",
        "sql/capture.sql",
        "ALTER TABLE {log} REPLICA IDENTITY FULL",
        "ALTER TABLE {log} REPLICA IDENTITY DEFAULT",
        _in("integration", "capture", "publication"),
    ),
    Mutant(
        "TRUNCATE is logged as a marker",
        "capture/apply.py",
        "return keys if truncated is None else keys + self._add_gone_keys(source, target, job)",
        "return keys",
        _in("integration", "capture", "change_after"),
    ),
    Mutant(
        "a pass applies every log row of its snapshot",
        "sql/catch_up.sql",
        "WITH gone AS (DELETE FROM {log} RETURNING",
        "WITH gone AS (DELETE FROM {log} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {log} LIMIT 1)) RETURNING",
        _in("integration", "capture", "change_after"),
    ),
    Mutant(
        "passes are numbered on both sides",
        "capture/apply.py",
        "            if logged:\n                self._record_source_pass(source, applied.number)\n",
        "",
        _in("integration", "catchup"),
    ),
    Mutant(
        "a target that has lost a pass is detected",
        "capture/apply.py",
        "        _refuse_lost(_passed(source, context.schema), catch_up.last(target, context.run_id))",
        "        pass",
        _in("integration", "catchup"),
    ),
    Mutant(
        "a pass must follow the last one recorded on both sides",
        "capture/apply.py",
        "        _refuse_lost(self._passed, catch_up.last(target, self.context.run_id))",
        "        pass",
        _in("integration", "catchup", "both_sides_record"),
    ),
    Mutant(
        "compaction waits for a pass",
        "sql/catch_up.sql",
        "LOCK TABLE {passes} IN SHARE UPDATE EXCLUSIVE MODE",
        "LOCK TABLE {passes} IN ACCESS SHARE MODE",
        _in("integration", "log_compaction", "waits_for_a_pass"),
    ),
    Mutant(
        "catch-up of a table begins when all its targets are copied",
        "schema_to_schema/log_compaction.py",
        "            if all(job.table.number in copied and job.table.arbiter for job in followed.jobs):",
        "            if True:",
        _in("integration", "log_compaction"),
    ),
    Mutant(
        "foreign keys have no action during the run",
        "schema_to_schema/deferred_objects/foreign_keys.py",
        "item.interim_name, item.interim + _late(item))",
        "item.interim_name, item.definition.removesuffix(' NOT VALID') + _late(item))",
        _in("acceptance", "rollback"),
    ),
    Mutant(
        "the sessions of jobs are recorded",
        "runner/threads.py",
        "            self._context.join(session, side, session.backend)",
        "            session.backend",
        _in("integration", "verification_jobs", "several_tables"),
    ),
    Mutant(
        "parts in flight are recorded after a signal",
        "runner/threads.py",
        "        except Drained:\n            self._settle()\n",
        "        except Drained:\n",
        _in("integration", "verification_jobs", "signal_lets"),
    ),
    Mutant(
        "a second signal cancels the statements of every job",
        "runner/threads.py",
        "                    session.cancel(POLL_SECONDS)\n",
        "                    pass\n",
        _in("integration", "verification_jobs", "second_signal"),
    ),
    Mutant(
        "parts in flight are recorded during a pause",
        "runner/threads.py",
        "        self._held.set()\n        self._take(0)\n",
        "        self._held.set()\n",
        _in("integration", "verification_jobs", "pause"),
    ),
    Mutant(
        "differences are reported by table and key",
        "schema_to_schema/verify.py",
        "tuple(sorted(found, key=place))",
        "found",
        _in("integration", "verification_jobs", "same_order"),
    ),
    Mutant(
        "rows add mixed hashes to the sums",
        "sql/checksum.sql",
        "\nhashint4extended({seed}, h)\n",
        "\nh\n",
        _in("integration", "checksum_power", "each_corruption"),
        too=(_COMBINED_BY_XOR,),
    ),
    Mutant(
        "equal rows do not cancel in the sums",
        *_COMBINED_BY_XOR,
        _in("integration", "checksum_power", "each_corruption"),
    ),
    Mutant(
        "each row adds two unrelated numbers",
        "compare/checksum.py",
        "MIXED = (1, 0x5BD1E995)",
        "MIXED = (1, 1)",
        _in("integration", "checksum_power", "unrelated"),
    ),
    Mutant(
        "the place of a column is in its hash",
        "compare/checksum.py",
        '{"seed": sql.Literal(number * SEED % 2**63), "small_seed": sql.Literal(number * SEED % 2**31)}',
        '{"seed": sql.Literal(SEED % 2**63), "small_seed": sql.Literal(SEED % 2**31)}',
        _in("integration", "checksum_power", "each_corruption"),
    ),
    Mutant(
        "every column is in the checksum",
        "compare/checksum.py",
        "return _hash([(p, _value(p, side)) for p in job.table.columns], hashing)",
        "return _hash([(p, _value(p, side)) for p in job.table.columns[:-1]], hashing)",
        _in("integration", "checksum_power", "each_corruption"),
    ),
    Mutant(
        "a NULL leaves the other columns in the hash",
        "sql/checksum.sql",
        "coalesce(hashtextextended({value}, {seed}), 0)",
        "hashtextextended({value}, {seed})",
        _in("integration", "checksum_power", "each_corruption"),
    ),
    Mutant(
        "all 64 bits of a number are in its hash",
        "sql/checksum.sql",
        "coalesce(hashint4extended({small_seed}, {value}), 0)",
        "coalesce(hashint8extended({value}, {seed}), 0)",
        _in("integration", "checksum_power", "each_corruption"),
    ),
    Mutant(
        "a constantly changing row is not a difference",
        "compare/suspects.py",
        "    hot = [k for k in differing if before.get(k) != after.get(k) or k in logged]",
        "    hot: list[Key] = []",
        _in("integration", "suspects"),
    ),
    Mutant(
        "keys changed since the verification are compared under the lock",
        "schema_to_schema/cutover.py",
        "        _refuse_differences(changed_keys.compare(context, job, hashing, context.check_lease))\n",
        "        context.check_lease()\n",
        _in("acceptance", "live", "under_the_lock"),
    ),
    Mutant(
        "the target is closed until the cutover",
        "schema_to_schema/follow.py",
        "            write_block.block(tx, context.schema, message, hint)",
        "            write_block.unblock(tx, context.schema)",
        _in("integration", "capture", "writes_from_confiture_only"),
    ),
    Mutant(
        "the source is closed before the target is opened",
        "schema_to_schema/cutover.py",
        '    write_block.block(source, context.schema, "this database no longer takes writes", served)\n',
        "",
        _in("acceptance", "live", "second_cutover"),
    ),
    Mutant(
        "the run's own writes are distinguished from the application's",
        "postgres/profile.py",
        "    if run:\n        statements.append(",
        "    if run and False:\n        statements.append(",
        _in("acceptance", "rollback", "applied_in_reverse"),
    ),
    Mutant(
        "the session of a foreign table waits only briefly for a lock",
        "postgres/profile.py",
        '| {"lock_timeout": BRIEF_LOCK}',
        "",
        _in("integration", "queued_locks", "fdw"),
        # Otherwise the cancellation of work that blocks the application also ends such a wait.
        too=(("postgres/yielding.py", "entry.pg.cancel_safe(timeout=CANCEL_SECONDS)", "pass"),),
    ),
    Mutant(
        "a cutover waits only briefly for its lock",
        "schema_to_schema/table_lock.py",
        "Budget(limits.lock_timeout, ",
        "Budget(60, ",
        _in("integration", "queued_locks", "cutover"),
    ),
    Mutant(
        "a setting of the role or of the database changes no value",
        "postgres/profile.py",
        '    "array_nulls": "on",\n',
        "",
        _in("integration", "roles", "settings_of_the_roles"),
    ),
    Mutant(
        "row-level security hides no rows on either side",
        "postgres/profile.py",
        '    "row_security": "off",',
        '    "row_security": "on",',
        _in("integration", "privileges", "row_security_enabled_during"),
    ),
    Mutant(
        "the target's commit comes before the source's",
        "capture/apply.py",
        '            failpoint("catchup.before_target_commit")\n',
        '            source.pg.execute("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ")\n'
        '            failpoint("catchup.before_target_commit")\n',
        _in("acceptance", "live", "any_killed_command"),
    ),
    Mutant(
        "a pass deletes exactly the log rows of its snapshot",
        "sql/catch_up.sql",
        "WITH gone AS (DELETE FROM {log} RETURNING {log_key}, truncated)",
        "WITH gone AS (SELECT {log_key}, truncated FROM {log})",
        _in("acceptance", "live", "second_cutover"),
        too=(
            (
                "capture/apply.py",
                '        failpoint("catchup.after_source_commit")\n',
                "        with self.source.transaction() as late:\n"
                "            for f in self.followed:\n"
                '                late.pg.execute(sql.SQL("DELETE FROM {}").format(f.item.log))\n',
            ),
        ),
    ),
    Mutant(
        "every deletion of a pass comes before its first insertion",
        "capture/apply.py",
        "                _delete_rows(target, job, keys[job.table.number])\n",
        "                _delete_rows(target, job, keys[job.table.number])\n"
        "                rows += _copy_rows(source, target, f, job, keys[job.table.number])\n",
        _in("integration", "capture", "change_after"),
    ),
    Mutant(
        "a helper commits when every thread of the pass has applied",
        "capture/apply.py",
        "                shared.await_all()\n",
        "",
        _in("integration", "parallel_catchup", "cannot_apply"),
        too=(("capture/helpers.py", "                shared.await_all()\n", ""),),
    ),
    Mutant(
        "a pass ends after its helpers",
        "capture/helpers.py",
        "                self._end(shared, pairs, working)\n",
        "                self._failed = True\n",
        _in("integration", "parallel_catchup", "ends_after_its_helpers"),
        too=(
            (
                "capture/helpers.py",
                'with ThreadPoolExecutor(len(pairs), "catch-up") as pool:',
                'with nullcontext(ThreadPoolExecutor(len(pairs), "catch-up")) as pool:',
            ),
            (
                "capture/helpers.py",
                "from contextlib import contextmanager\n",
                "from contextlib import contextmanager, nullcontext\n",
            ),
        ),
    ),
    Mutant(
        "tables that a foreign key connects are applied by one session",
        "sql/catch_up.sql",
        "SELECT conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f'\nUNION ",
        "",
        _in("integration", "parallel_catchup", "keys_connect"),
    ),
    Mutant(
        "helpers read the snapshot of the pass",
        "capture/apply.py",
        '            source.pg.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))\n',
        "",
        _in("integration", "parallel_catchup", "snapshot_of_the_pass"),
    ),
    Mutant(
        "a helper does not wait for a lock that the application waits for",
        "capture/apply.py",
        "IN ACCESS SHARE MODE NOWAIT",
        "IN ACCESS SHARE MODE",
        _in("integration", "parallel_catchup", "left_to_the_follower"),
    ),
    Mutant(
        "a pass that fails with helpers is repeated without them",
        "capture/helpers.py",
        "        if not self._failed or code.startswith(_NOT_OF_THE_WORK):",
        "        if True:",
        _in("integration", "parallel_catchup", "cannot_apply"),
    ),
    Mutant(
        "the sessions of helpers are recorded",
        "capture/helpers.py",
        "                self._context.join(session, side, session.backend)",
        "                pass",
        _in("integration", "parallel_catchup", "taken_over"),
    ),
    Mutant(
        "keys changed since the verification are recorded",
        "capture/apply.py",
        "                if changed_since_verified:\n",
        "                if changed_since_verified and False:\n",
        _in("acceptance", "live", "applies_a_wrong_value"),
    ),
    Mutant(
        "a disabled capture trigger is detected",
        "fingerprint.py",
        "CAPTURED: Final = (*MEANING, STORAGE, CAPTURE, SUBSCRIPTIONS)",
        "CAPTURED: Final = (*MEANING, STORAGE, SUBSCRIPTIONS)",
        _in("integration", "capture", "disabled"),
    ),
    Mutant(
        "a new subscription is detected",
        "fingerprint.py",
        "CAPTURED: Final = (*MEANING, STORAGE, CAPTURE, SUBSCRIPTIONS)",
        "CAPTURED: Final = (*MEANING, STORAGE, CAPTURE)",
        _in("integration", "subscribed", "created_during"),
    ),
    Mutant(
        "partitioned and subscribed tables have row-level capture triggers",
        "capture/triggers.py",
        '    return "row" if row is not None and row[0] else "statement"',
        '    return "statement"',
        _in("integration", "subscribed", "subscription_applies"),
    ),
    Mutant(
        "the last range of keys is open",
        "plan/keyset.py",
        "    if last:\n        spans.append(KeyRange(edges[-1], None))\n",
        "",
        _in("integration", "keyset_ranges"),
    ),
    Mutant(
        "a range of keys is compared only on the source",
        "copy/fdw.py",
        """    return bool(scans) and all("Filter" not in s and _has_all(s["Remote SQL"], job) for s in scans)""",
        "    return True",
        _in("integration", "types", "walked"),
        too=(
            (
                "plan/planner.py",
                '            if column.type_kind != "b" or not column.base_builtin:',
                "            if False:",
            ),
            (
                "plan/planner.py",
                "            if column.collation is not None:\n                return f",
                "            if False:\n                return f",
            ),
        ),
    ),
    Mutant(
        "the equality of a key is bytewise",
        "plan/conversions.py",
        '        return f"has the nondeterministic collation {column.collation}: equal values may differ"',
        "        return None",
        _in("unit", "plan"),
    ),
    Mutant(
        "a run whose runner is alive is not taken over",
        "runner/lease.py",
        "        if holder is None or gone or holder.lapsed:",
        "        if True:",
        _in("integration", "resume", "second_migrate"),
    ),
    Mutant(
        "a lost lease is detected before the next write",
        "runner/context.py",
        "        if self.lost.is_set():",
        "        if False:",
        _in("integration", "resume", "lost_its_lease_stops"),
    ),
    Mutant(
        "a state changes only together with its event",
        "../../migrations_state/0001_journal.sql",
        "    IF NOT EXISTS (\n        SELECT FROM confiture.event e\n",
        "    IF false AND NOT EXISTS (\n        SELECT FROM confiture.event e\n",
        _in("integration", "journal", "event"),
    ),
    Mutant(
        "the lock on the source is held no longer than the write pause",
        "schema_to_schema/table_lock.py",
        "end = time.monotonic() + limits.max_write_pause",
        "end = time.monotonic() + 3600",
        _in("acceptance", "live", "exceeds_its_write_pause"),
    ),
    Mutant(
        "the application's triggers do not fire for copied rows",
        "schema_to_schema/deferred_objects/statements.py",
        '"D": "DISABLE"',
        '"D": "ENABLE"',
        _in("integration", "cutover", "as_declared"),
    ),
    Mutant(
        "the source stays closed after the cleanup",
        "schema_to_schema/cleanup.py",
        "        blocked = write_block.is_blocked(tx, context.schema)\n",
        "        blocked = False\n",
        _in("acceptance", "live", "stays_closed"),
    ),
    Mutant(
        "a verification is stale after a restart of either server",
        "schema_to_schema/verify.py",
        "if last.servers[side] != server]",
        "if False and last.servers[side] != server]",
        _in("integration", "faults", "restart_of_a_server"),
    ),
    Mutant(
        "the server ends a session that freezes while it acquires a run",
        "runner/lease.py",
        "            claiming(tx)\n            if holder is not None:",
        "            if holder is not None:",
        _in("integration", "resume", "frozen_while"),
        too=(("runner/lease.py", "        claiming(tx)\n        run_schema", "        run_schema"),),
    ),
    Mutant(
        "an interrupted abort or cleanup must be finished first",
        "commands/holding.py",
        "    if ending is not None and ending != command:",
        "    if False:",
        _in("acceptance", "kill", "killed_abort_leaves"),
    ),
    Mutant(
        "a journal is not upgraded while another command uses it",
        "journal/schema.py",
        "        if holder is not None:",
        "        if False:",
        _in("integration", "journal", "while_another_command"),
    ),
    Mutant(
        "the source's password is on the target only while rows are copied",
        "schema_to_schema/migrate.py",
        "            foreign_server.drop_user_mapping(tx, server)",
        "            pass",
        _in("integration", "privileges", "only_while"),
    ),
    Mutant(
        "PUBLIC has no privilege on the schemas of a run",
        "sql/run_schema.sql",
        ";\nREVOKE ALL ON SCHEMA {schema} FROM PUBLIC",
        "",
        _in("integration", "privileges", "default_privileges"),
    ),
    Mutant(
        "SECURITY DEFINER functions set their search_path",
        "sql/capture.sql",
        "SET search_path = pg_catalog, pg_temp\n",
        "",
        _in("integration", "privileges", "default_privileges"),
    ),
    Mutant(
        "PUBLIC lacks EXECUTE on the functions of a run",
        "sql/capture.sql",
        ";\nREVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
        "",
        _in("integration", "privileges", "default_privileges"),
    ),
    Mutant(
        "the outcome of a commit whose reply was lost is read from the database",
        "schema_to_schema/switchover.py",
        "        return retry(lambda: is_past_point_of_no_return(context, direction))",
        "        return False",
        _in("integration", "faults", "after_its_commit"),
    ),
    Mutant(
        "timeouts set on a role or a database do not apply to the run",
        "postgres/connection.py",
        'f"-c {name}={value}" for name, value in _FROM_THE_START.items()',
        'f"-c {name}={value}" for name, value in {}.items()',
        _in("integration", "faults", "settings_of_the_databases"),
    ),
    Mutant(
        "a server that its configuration makes read-only gets no more rows",
        "runner/lease.py",
        "self._fills and read_only.by_server(tx)",
        "False",
        _in("integration", "read_only", "next_checkpoint"),
    ),
    Mutant(
        "capture records the storage of its tables",
        "capture/triggers.py",
        "    for ref in (item.table, *partitions):\n        name = sql.Literal(",
        "    for ref in ():\n        name = sql.Literal(",
        _in("integration", "capture", "emptied_between"),
    ),
    Mutant(
        "a deadlock at the cutover's lock is retried",
        "schema_to_schema/table_lock.py",
        "        except LOCK_CONFLICTS:\n            pass\n",
        "        except psycopg.errors.LockNotAvailable:\n            pass\n",
        _in("integration", "queued_locks", "contrary"),
    ),
    Mutant(
        "a stalled connection is closed",
        "postgres/watchdog.py",
        "if connection.waits and _is_stalled",
        "if False and connection.waits and _is_stalled",
        (*_in("integration", "faults", "stalled_connection_with"), "--timeout", "60"),
    ),
    Mutant(
        "a session that reconnects ends the backend of its lost connection",
        "postgres/session.py",
        "            if lost is not None:",
        "            if lost is not None and False:",
        _in("integration", "faults", "silent_proxy"),
    ),
    Mutant(
        "the image of a key is a key",
        "plan/planner.py",
        "            problem = image_problem(column, image)\n",
        "            problem = None\n",
        _in("unit", "plan", "no_image"),
    ),
    Mutant(
        "the image of a key keeps different keys distinct",
        "plan/conversions.py",
        "    if not _keeps_apart(source, target):",
        "    if False:",
        _in("unit", "plan", "different_keys_equal"),
    ),
    Mutant(
        "an index with another equality is not a key",
        "catalog_model.py",
        " and self.own_equality",
        "",
        _in("integration", "key_images", "neither_key_nor_arbiter"),
    ),
    Mutant(
        "a pass deletes by the bytes of the key",
        "plan/projection.py",
        "    if p.cast_in is None and p.wire in _COLLATED:",
        "    if False:",
        _in("integration", "key_images", "changed_after_the_plan"),
    ),
    Mutant(
        "an unvalidated NOT NULL does not qualify as a key",
        "sql/catalog.sql",
        "    WHERE NOT a.attnotnull OR NOT nn.convalidated\n",
        "    WHERE NOT a.attnotnull\n",
        _in("integration", "key_images", "behind_a_not_null"),
    ),
    Mutant(
        "a NULL is not a bound of a range",
        "copy/chunks.py",
        "    if len(found) < len(key):",
        "    if False:",
        _in("integration", "key_images", "bound_of_a_range"),
    ),
    Mutant(
        "a sequence's origin is found through defaults",
        "catalog_model.py",
        "        return self.fills or (",
        "        return (",
        _in("integration", "sequences", "continues_after"),
    ),
    Mutant(
        "a sequence advances within its bounds",
        "schema_to_schema/sequences.py",
        "    if margin <= room:",
        "    if True:",
        _in("unit", "sequence_rules"),
    ),
    Mutant(
        "a sequence that ends before its origin is refused by the plan",
        "plan/planner.py",
        "        if origin.last is not None and is_past(",
        "        if False and is_past(",
        _in("unit", "plan", "ends_before_its_origin"),
    ),
    Mutant(
        "the rehearsal checks sequences",
        "schema_to_schema/rehearse.py",
        "        sequences.wanted(a, b, plan.sequences, margin=cutover.SEQUENCE_MARGIN)\n",
        "        pass\n",
        _in("integration", "sequences", "rehearsal_reports"),
    ),
    Mutant(
        "a session of the run is identified by PID and start, not by name",
        "sql/cutover.sql",
        "WHERE ours.pid = a.pid AND ours.started = extract(epoch FROM a.backend_start)::text)",
        "WHERE ours.pid = a.pid OR a.application_name ~ '^confiture ')",
        _in("integration", "blockers", "with_our_name"),
    ),
    Mutant(
        "catch-up's sessions are recorded",
        "capture/apply.py",
        "            self.context.join(session, side, session.backend)",
        "            pass",
        _in("integration", "blockers", "sessions_of_catch_up"),
    ),
    Mutant(
        "the sessions of index builds are recorded",
        "runner/context.py",
        "            self.record_backends(by)\n",
        "            self.record_backends(by) if by is None else None\n",
        _in("integration", "index_jobs", "two_indexes"),
    ),
    Mutant(
        "the indexes of partitions are attached one by one",
        "schema_to_schema/index_steps.py",
        "    locks = table | {_ATTACHED} if attached else table\n",
        "    locks = table\n",
        _in("unit", "index_builds", "one_by_one"),
    ),
    Mutant(
        "an error of one index build leaves the others running",
        "runner/parallel_steps.py",
        "            return error\n",
        "            raise\n",
        _in("integration", "index_jobs", "leaves_the_others"),
    ),
    Mutant(
        "an index that is built is not built again",
        "schema_to_schema/deferred_objects/indexes.py",
        "    elif not _is_built(tx, item):\n",
        "    else:\n",
        _in("integration", "index_jobs", "is_adopted"),
    ),
    Mutant(
        "an index that is not valid is built again",
        "schema_to_schema/deferred_objects/indexes.py",
        "    if found == (False,):\n",
        "    if False:\n",
        _in("integration", "index_jobs", "invalid_index"),
    ),
    Mutant(
        "an index that is built is dropped when its table is restarted",
        "schema_to_schema/plan_store.py",
        "            elif index.definition:\n",
        "            elif False:\n",
        _in("integration", "index_jobs", "table_is_restarted"),
    ),
    Mutant(
        "only the named session is ended",
        "sql/cutover.sql",
        "IS NOT DISTINCT FROM %(started)s",
        "IS NOT DISTINCT FROM coalesce(%(started)s, extract(epoch FROM a.backend_start)::text)",
        _in("integration", "blockers", "pid_was_reused"),
    ),
    Mutant(
        "a composite type with other attributes needs a transform",
        "plan/conversions.py",
        "source.attributes != target.attributes:",
        "False:",
        _in("integration", "types", "composite_type_with"),
    ),
    Mutant(
        "a logged key that the other side cannot hold does not stop a pass",
        "capture/apply.py",
        "                _discard_bad_text(source, followed, self._holdable)",
        "                pass",
        _in("integration", "encodings", "continues_once_it_is_fixed"),
    ),
    Mutant(
        "a comparison names the row whose text is not valid",
        "compare/compared_parts.py",
        "    with bad_text.naming(sides.source, sides.target, sides.job), large_row.naming(sides.source, sides.job):",
        "    with large_row.naming(sides.source, sides.job):",
        _in("integration", "encodings", "verification_names"),
    ),
    Mutant(
        "a function that relies on search_path is refused by the plan",
        "plan/search_path.py",
        'error = _tried(tx, query, ("pg_catalog",))',
        'error = _tried(tx, query, (*path, "pg_temp"))',
        _in("integration", "search_path", "one_row_of_the_source"),
    ),
    Mutant(
        "preview runs functions with the search_path of the copy",
        "schema_to_schema/plan_store.py",
        """            tx.pg.execute("SET LOCAL search_path = pg_catalog")
            return""",
        "            return",
        _in("integration", "search_path", "preview_runs"),
    ),
    Mutant(
        "checking the functions of a target changes nothing",
        "plan/search_path.py",
        "SET LOCAL transaction_read_only = on; ",
        "",
        _in("integration", "search_path", "changes_nothing"),
    ),
    Mutant(
        "the fingerprint of the target has the functions of the reverse views",
        "schema_to_schema/reverse.py",
        "        fingerprint.record(tx, context.schema, oids, [fingerprint.DEFINITIONS], found)",
        "        pass",
        _in("integration", "search_path", "reverse_is_refused"),
    ),
    Mutant(
        "a function of another role is refused by the plan",
        "plan/expressions.py",
        "if problem is None else []",
        "if False else []",
        _in("integration", "trusted_functions", "shadows_a_built_in"),
    ),
    Mutant(
        "the functions of the views are checked when the views are created",
        "schema_to_schema/plan_store.py",
        '            trust.refuse(tx, context.schema, plan.tables, plan.trusted, "source")',
        "            pass",
        _in("integration", "trusted_functions", "created_after_the_plan"),
    ),
    Mutant(
        "a trusted function is trusted only as it was defined",
        "plan/trust.py",
        "        if known.get(oid) != digest",
        "        if oid not in known",
        _in("integration", "trusted_functions", "was_redefined"),
    ),
    Mutant(
        "the check of an expression resolves names in pg_catalog",
        "plan/trust.py",
        '        tx.pg.execute("SET LOCAL search_path = pg_catalog")',
        "        pass",
        _in("integration", "trusted_functions", "runs_no_code"),
        (
            (
                "plan/expressions.py",
                '            tx.pg.execute("SET LOCAL search_path = pg_catalog")',
                "            pass",
            ),
        ),
    ),
    Mutant(
        "reverse: is checked in the target",
        "schema_to_schema/reverse.py",
        "            foreign = trust.untrusted(tx, views, trusted)",
        "            foreign = trust.untrusted(tx, views, trusted)[:0]",
        _in("integration", "trusted_functions", "reverse_that_runs"),
    ),
    Mutant(
        "a hook gets no variable that contains an encoded password",
        "commands/hooks.py",
        'if k == "PATH" or not secret_values.contains(v, secrets)}',
        'if k == "PATH" or v not in secrets}',
        _in("unit", "secret_values", "encoded_password"),
    ),
    Mutant(
        "a password that libpq reads from a file is treated as a secret",
        "postgres/connection.py",
        "        secret_values.use(effective_secrets(pg))",
        "        pass",
        _in("integration", "privileges", "of_a_file_reaches"),
    ),
    Mutant(
        "the source's password is in no error of the statement that contains it",
        "sql/foreign_server.sql",
        "EXCEPTION WHEN OTHERS THEN",
        "EXCEPTION WHEN division_by_zero THEN",
        _in("integration", "foreign_server", "cannot_be_created"),
    ),
    Mutant(
        "the foreign server takes the live connection's TLS options",
        "copy/foreign_server.py",
        "    options.update(security(source))",
        "",
        _in("integration", "foreign_server", "service_file"),
    ),
    Mutant(
        "a foreign server without TLS is not used if the live connection has TLS",
        "copy/foreign_server.py",
        "    if source.pg.pgconn.ssl_in_use and encrypted != (True,):",
        "    if False:",
        _in("integration", "foreign_server", "without_tls"),
    ),
    Mutant(
        "the foreign server's session is recorded before it reads",
        "copy/chunks.py",
        '    by_fdw = job.table.strategy == "fdw"',
        "    by_fdw = False",
        _in("integration", "foreign_server", "is_recorded_before"),
    ),
    Mutant(
        "sessions left by earlier runners are ended",
        "runner/lease.py",
        "            context.end_leftovers()",
        "            pass",
        _in("integration", "foreign_server", "left_over"),
    ),
    Mutant(
        "the source ends a foreign session whose peer has vanished",
        "postgres/profile.py",
        '        "tcp_keepalives_idle",\n',
        "",
        _in("integration", "foreign_server", "within_a_minute"),
        (("postgres/profile.py", '        "tcp_user_timeout",\n', ""),),
    ),
    Mutant(
        "orphans are searched with the operators of the foreign key",
        "compare/constraints.py",
        "    if key.operators is None:",
        "    if key.operators is not None:",
        _in("integration", "foreign_keys", "verify_finds"),
    ),
    Mutant(
        "the interim of a foreign key has a unique name",
        "schema_to_schema/deferred_objects/describe.py",
        "hashlib.sha256(text.encode())",
        "hashlib.sha256(name[:40].encode())",
        _in("integration", "foreign_keys", "second_cutover"),
    ),
    Mutant(
        "the action of a partitioned table's key applies from the opening",
        "schema_to_schema/deferred_objects/foreign_keys.py",
        "for table in _leaves(tx, item, None) if item.partitioned else",
        "for table in [] if item.partitioned else",
        _in("integration", "foreign_keys", "action_of_a_partitioned_child"),
    ),
    Mutant(
        "the target's rules are disabled during the run",
        "schema_to_schema/setup.py",
        "(*describe.triggers(table), *describe.rules(table))",
        "describe.triggers(table)",
        _in("integration", "rules", "not_for_rows_of_the_run"),
    ),
    Mutant(
        "the source's rules are disabled while changes are applied in reverse",
        "schema_to_schema/reverse.py",
        "if table.ref in tables for r in describe.rules(table)]",
        "if False for r in describe.rules(table)]",
        _in("integration", "rules", "in_reverse"),
    ),
    Mutant(
        "a NOT VALID constraint of the target is dropped during the run",
        "schema_to_schema/setup.py",
        "    items += describe.unvalidated(found, (t.ref for t in found.tables))\n",
        "",
        _in("integration", "unvalidated", "are_copied"),
    ),
    Mutant(
        "a NOT VALID constraint of the source is dropped while changes are applied in reverse",
        "schema_to_schema/reverse.py",
        "(*own, *rules, *describe.unvalidated(found, tables))",
        "(*own, *rules)",
        _in("integration", "unvalidated", "reverse_passes"),
    ),
    Mutant(
        "event triggers do not fire for the DDL of the run",
        "postgres/connection.py",
        "set_config('event_triggers', 'off', false)",
        "set_config('event_triggers', 'on', false)",
        _in("integration", "event_triggers", "application_and_not_for_confiture"),
    ),
    Mutant(
        "a publication in the target does not refuse the deletes of a pass",
        "schema_to_schema/setup.py",
        "    items: list[Deferred] = list(describe.publications(found))",
        "    items: list[Deferred] = []",
        _in("integration", "published_target", "without_identity"),
    ),
    Mutant(
        "materialized views are refreshed after the last change",
        "schema_to_schema/cutover.py",
        "    materialized_views.refresh(context, plan)\n",
        "",
        _in("integration", "materialized_views", "refreshed"),
    ),
    Mutant(
        "a view that has data on the source has data in the target",
        "plan/materialized_views.py",
        "if view.populated or view.ref in on_source:",
        "if view.populated:",
        _in("integration", "materialized_views", "readable_on_the_source"),
    ),
    Mutant(
        "a function that relies on search_path is named with a fix",
        "postgres/failure.py",
        "    if function is not None:\n        return _search",
        "    if function is not None and False:\n        return _search",
        _in("integration", "search_path", "index"),
    ),
    Mutant(
        "status does not guess the serving database between closing and opening",
        "states.py",
        "if captured and phase in CLOSING and state not in FINAL:",
        "if captured and phase in CLOSING and state in FINAL:",
        _in("unit", "status_rules", "determines_which_database"),
    ),
    Mutant(
        "status offers only to finish an unfinished switchover",
        "status/severity.py",
        'return [(f"finish the {facts.switching} now{same}", facts.switching)]',
        'return [(f"finish the {facts.switching} now{same}", facts.switching), _DROP]',
        _in("unit", "status_rules", "finishing"),
    ),
    Mutant(
        "an unfinished switchover is not safe to leave",
        "status/severity.py",
        "if facts.switching is not None and not runner.alive and (facts.closing or facts.held is not None):",
        "if facts.switching is None and not runner.alive:",
        _in("integration", "status", "unfinished_switchover"),
    ),
    Mutant(
        "unfinished work without a runner is critical after the lease",
        "status/severity.py",
        "return ([reason], []) if runner.absent_seconds > LEASE_SECONDS else ([], [reason])",
        "return [], []",
        _in("integration", "status", "reports_unfinished_work"),
    ),
    Mutant(
        "the reason of a refused command blocks the run",
        "commands/holding.py",
        "if isinstance(error, (Blocked, DataFailure)):",
        "if isinstance(error, DataFailure):",
        _in("integration", "status", "refused_command"),
    ),
    Mutant(
        "a block is cleared only by a command that has checked",
        "commands/migrate.py",
        'if run.state == VERIFIED:\n            progress_.say("nothing to migrate: every row is copied and verified")',
        'if run.state == VERIFIED:\n            unblock(context, "migrate")\n'
        '            progress_.say("nothing to migrate: every row is copied and verified")',
        _in("integration", "status", "has_checked"),
    ),
    Mutant(
        "a run with a newer journal is unknown",
        "status/report.py",
        "return Report(now, tuple(_misread(run, newer) for run in runs), (newer,))",
        "return Report(now, runs, (newer,))",
        _in("integration", "status", "newer_than_the_tool"),
    ),
    Mutant(
        "a printed command contains no password",
        "config.py",
        'return (database.public or "postgresql://") if database.secrets else None',
        "return None",
        _in("unit", "status_rules", "repeats_the_target"),
    ),
    Mutant(
        "SIGHUP drains the command",
        "runner/stop.py",
        "heeded.append(signal.SIGHUP)",
        "pass",
        _in("integration", "resume", "signal_stops"),
    ),
    Mutant(
        "work that blocks the application is cancelled",
        "postgres/yielding.py",
        "entry.pg.cancel_safe(timeout=CANCEL_SECONDS)",
        "pass",
        _in("integration", "giving_way", "catch_up"),
    ),
    Mutant(
        "the statement on the other side is also cancelled",
        "postgres/yielding.py",
        "            for entry in self._open:\n                try:",
        "            for entry in self._open[:1]:\n                try:",
        _in("integration", "giving_way", "chunk"),
    ),
    Mutant(
        "nothing is cancelled while a transaction commits",
        "postgres/yielding.py",
        "self._commits |= commits",
        "pass",
        _in("integration", "giving_way", "other_side_has_committed"),
    ),
    Mutant(
        "a cutover is not cancelled under its lock",
        "schema_to_schema/table_lock.py",
        "with holding_on(), limited(",
        "with limited(",
        _in("integration", "giving_way", "under_the_lock"),
    ),
    Mutant(
        "a cancelled chunk is halved",
        "schema_to_schema/copy_chunk.py",
        "        if job.table.key:\n            retry(partial(chunks.halve",
        "        if False:\n            retry(partial(chunks.halve",
        _in("integration", "giving_way", "chunk"),
    ),
    Mutant(
        "a cancelled range is compared in halves",
        "compare/parts.py",
        "return [span] if middle is None else",
        "return [span] if True or middle is None else",
        _in("integration", "giving_way", "range_gives_way"),
    ),
    Mutant(
        "follow compares every row repeatedly",
        "schema_to_schema/background_verification.py",
        "        if confirmed:",
        "        if confirmed and False:",
        _in("integration", "rounds", "fires_no_trigger"),
    ),
    Mutant(
        "an incomplete round is not a verification",
        "../../migrations_state/0007_verification.sql",
        " AND r.ended_at IS NOT NULL",
        "",
        _in("integration", "rounds", "interrupted"),
    ),
    Mutant(
        "a cutover refuses a verification that is too old",
        "schema_to_schema/verify.py",
        "age is not None and age > seconds",
        "age is not None and age < 0 > seconds",
        _in("integration", "rounds", "refuses_an_old"),
    ),
    Mutant(
        "a round continues where it stopped",
        "schema_to_schema/background_verification.py",
        "if found.behind is None or (table.number, part.number) > found.behind:",
        "if True:",
        _in("integration", "rounds", "interrupted"),
    ),
    Mutant(
        "a chunk too large for postgres_fdw is copied by COPY",
        "copy/fdw.py",
        "if not is_too_large(error):",
        "if True:",
        _in("integration", "large_rows", "copied_by_copy"),
    ),
    Mutant(
        "large values count for the width of a row",
        "catalog_model.py",
        "return width + self.large_bytes // max(1, self.estimated_rows)",
        "return width",
        _in("integration", "large_rows", "large_values_count"),
    ),
    Mutant(
        "a row above 1 GB is refused by the plan",
        "schema_to_schema/preconditions/large_rows.py",
        "if found is not None and found.size > large_row.BYTES_MOST:",
        "if False:",
        _in("integration", "large_rows", "gigabyte"),
    ),
    Mutant(
        "the columns of a wide table stand for its key",
        "plan/model.py",
        "return len(self.columns) + len(self.key) > TABLE_COLUMNS_MOST",
        "return False",
        _in("integration", "large_rows", "wide_table_is"),
    ),
    Mutant(
        "a large object that changed last is copied under the lock",
        "schema_to_schema/cutover.py",
        "    large_objects.synchronise(context, plan, source)\n",
        "",
        _in("integration", "large_objects", "lock_is_awaited"),
    ),
    Mutant(
        "the cutover locks the large objects",
        "schema_to_schema/large_objects.py",
        "if not plan.large_objects or not _may_lock(tx):",
        "if True:",
        _in("integration", "large_objects", "cutover_waits"),
    ),
    Mutant(
        "a removed large object is noticed under the lock",
        "schema_to_schema/large_objects.py",
        "if locked is not None and objects.are_being_changed(locked):",
        "if False:",
        _in("integration", "large_objects", "cutover_waits"),
    ),
    Mutant(
        "the content of a large object is compared",
        "copy/large_objects.py",
        "return [replace(o, content=digests[o.oid]) for o in found]",
        "return list(found)",
        _in("integration", "large_objects", "differ_are_found"),
    ),
    Mutant(
        "a large object is recorded before it is created on the source",
        "schema_to_schema/large_objects.py",
        "    _claim(context, [o.oid for o in what.changed if o.oid not in what.ours])\n",
        "",
        _in("integration", "large_objects", "rollback_that_is_killed"),
    ),
    Mutant(
        "a briefly disabled capture trigger is detected, also on a leaf",
        "sql/fingerprint.sql",
        "'(version ' || t.oid || '.' || t.xmin || ')'",
        "'(version ' || t.oid || ')'",
        _in("integration", "fingerprint", "missed_by_capture"),
    ),
    Mutant(
        "the triggers of leaves are in the fingerprint",
        "sql/fingerprint.sql",
        "JOIN pg_trigger t ON t.tgrelid = m.oid",
        "JOIN pg_trigger t ON t.tgrelid = m.oid AND m.oid = m.root",
        _in("integration", "fingerprint", "missed_by_capture"),
    ),
    Mutant(
        "a disabled trigger of the application is detected",
        "sql/fingerprint.sql",
        "CASE t.tgenabled WHEN 'D' THEN '(disabled)'",
        "CASE t.tgenabled WHEN 'D' THEN '(enabled)'",
        _in("integration", "resume", "between_two_chunks"),
    ),
    Mutant(
        "the labels of an enum are in the fingerprint",
        "sql/fingerprint.sql",
        "string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder)",
        "max(''::text)",
        _in("integration", "fingerprint", "renamed_enum_label"),
    ),
    Mutant(
        "objects that an object depends on internally are in the fingerprint",
        "sql/fingerprint.sql",
        "d.deptype IN ('n', 'i')",
        "d.deptype = 'n'",
        _in("integration", "fingerprint", "behind_a_value"),
    ),
    Mutant(
        "text search configurations are in the fingerprint",
        "sql/fingerprint.sql",
        "('pg_ts_config'::regclass), ('pg_ts_dict'::regclass)",
        "('pg_collation'::regclass)",
        _in("integration", "fingerprint", "behind_a_value"),
    ),
    Mutant(
        "the names that values are printed as are in the fingerprint",
        "sql/fingerprint.sql",
        "WHERE oid >= 16384 OR typname ~ '^_?reg(class|proc|procedure|type|role|namespace)$'",
        "WHERE oid >= 16384",
        _in("integration", "fingerprint", "behind_a_value"),
    ),
    Mutant(
        "the names that values are printed as are recorded even if there are none",
        "sql/fingerprint.sql",
        "FROM followed_type f WHERE f.oid = e.object)",
        "FROM followed_type f WHERE f.oid = e.object AND EXISTS (SELECT FROM name n WHERE n.type = f.names"
        " AND n.oid >= 16384 AND coalesce(n.schema::text = 'public', true)))",
        _in("integration", "fingerprint", "first_function"),
    ),
    Mutant(
        "an index that is built again concurrently is the same key",
        "sql/fingerprint.sql",
        "'key ' || i.indexrelid::regclass",
        "'key ' || i.indexrelid",
        _in("integration", "fingerprint", "built_again_concurrently"),
    ),
    Mutant(
        "functions that the run's views call are in the fingerprint",
        "sql/fingerprint.sql",
        " AND v.relkind = 'v'",
        " AND v.relkind = 'v' AND false",
        _in("integration", "fingerprint", "the_meaning_of_a_row"),
    ),
    Mutant(
        "the body of a function is in the fingerprint",
        "sql/fingerprint.sql",
        "concat_ws('|', p.prosrc, ",
        "concat_ws('|', ",
        _in("integration", "fingerprint", "the_meaning_of_a_row"),
    ),
    Mutant(
        "functions that other functions call are in the fingerprint",
        "sql/fingerprint.sql",
        "          AND p.prosrc ~* (",
        "          AND false AND p.prosrc ~* (",
        _in("integration", "fingerprint", "the_meaning_of_a_row"),
    ),
    Mutant(
        "a table created or dropped during the run is detected",
        "fingerprint.py",
        "DATABASE: Final = (TABLES, LARGE_OBJECTS)",
        "DATABASE: Final = (LARGE_OBJECTS,)",
        _in("integration", "fingerprint", "dropped_during_the_run"),
    ),
    Mutant(
        "partitioned tables are in the set of tables",
        "sql/fingerprint.sql",
        "WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition",
        "WHERE c.relkind IN ('r', 'f') AND NOT c.relispartition",
        _in("integration", "fingerprint", "created_during_the_run"),
    ),
    Mutant(
        "large objects created during the run are detected",
        "fingerprint.py",
        "DATABASE: Final = (TABLES, LARGE_OBJECTS)",
        "DATABASE: Final = (TABLES,)",
        _in("integration", "fingerprint", "large_object"),
    ),
    Mutant(
        "DDL in the target is detected before a pass is applied",
        "capture/apply.py",
        '        fingerprint.refuse_changed(target, self.context.schema, "target", kinds, tables)\n',
        "",
        _in("integration", "fingerprint", "ddl_in_the_target"),
    ),
    Mutant(
        "a rewrite of a target table is detected",
        "capture/apply.py",
        "kinds = (*fingerprint.APPLIED, fingerprint.STORAGE, fingerprint.WRITE_BLOCK)",
        "kinds = (*fingerprint.APPLIED, fingerprint.WRITE_BLOCK)",
        _in("integration", "fingerprint", "ddl_in_the_target"),
    ),
    Mutant(
        "a new foreign key in the target is detected",
        "fingerprint.py",
        "APPLIED: Final = (*MEANING, FOREIGN_KEYS)",
        "APPLIED: Final = MEANING",
        _in("integration", "fingerprint", "ddl_in_the_target"),
    ),
    Mutant(
        "the write block refuses changes from replication",
        "sql/write_block.sql",
        "ENABLE ALWAYS TRIGGER",
        "ENABLE TRIGGER",
        _in("integration", "write_block", "each_way_of_writing"),
    ),
    Mutant(
        "the write block refuses TRUNCATE of a partition",
        "capture/write_block.py",
        "for part in parts)]",
        "for part in (table,))]",
        _in("integration", "write_block", "each_way_of_writing"),
    ),
    Mutant(
        "a reverse pass detects a damaged write block",
        "schema_to_schema/reverse.py",
        '        write_block.refuse_damaged(tx, context.schema, "source")\n',
        "        pass\n",
        _in("integration", "write_block", "permitted_writes"),
        (
            (
                "capture/reverse_apply.py",
                '        write_block.refuse_damaged(target, self.context.schema, "source")\n',
                "",
            ),
        ),
    ),
    Mutant(
        "the target's opening is prepared before the source is closed",
        "schema_to_schema/cutover.py",
        "        open_target(context, opening, plan, run, servers)\n",
        "",
        _in("integration", "opening", "aborts_the_cutover"),
        (
            (
                "schema_to_schema/cutover.py",
                "    rehearse_opening(context, plan, limits)\n\n\ndef prepare_block",
                "\n\ndef prepare_block",
            ),
        ),
    ),
    Mutant(
        "the source's opening is prepared before the target is closed",
        "schema_to_schema/rollback.py",
        "        open_source(context, opening)\n",
        "        pass\n",
        _in("integration", "opening", "aborts_the_rollback"),
    ),
    Mutant(
        "the log is drained before each attempt at the lock",
        "schema_to_schema/table_lock.py",
        "        work.before()\n",
        "",
        _in("integration", "opening", "burst"),
        (("schema_to_schema/cutover.py", "MOST_UNDER_LOCK) > MOST_UNDER_LOCK:", "MOST_UNDER_LOCK) < 0:"),),
    ),
    Mutant(
        "the lock is released if the backlog is too large",
        "schema_to_schema/cutover.py",
        "MOST_UNDER_LOCK) > MOST_UNDER_LOCK:",
        "MOST_UNDER_LOCK) < 0:",
        _in("integration", "opening", "too_many"),
    ),
    Mutant(
        "the lock on all tables has one deadline",
        "schema_to_schema/table_lock.py",
        '"SET LOCAL lock_timeout = {0}; SET LOCAL statement_timeout = {0}"',
        '"SET LOCAL lock_timeout = {0}"',
        _in("integration", "opening", "one_deadline"),
    ),
    Mutant(
        "the server ends a session that freezes under the lock",
        "postgres/budget.py",
        "        if idle:\n",
        "        if False:\n",
        _in("integration", "opening", "freezes"),
    ),
    Mutant(
        "statements under the lock are cancelled at the end of the write pause",
        "postgres/budget.py",
        "for s in (self.left, self.lock_timeout, self.left + GRACE_SECONDS)",
        "for s in (3600, self.lock_timeout, self.left + GRACE_SECONDS)",
        (*_in("integration", "opening", "statement_under_the_lock"), "--timeout", "30"),
        (
            ("postgres/budget.py", "        self._timer.start()\n", ""),
            ("postgres/budget.py", "        self._timer.cancel()\n        self._timer.join()\n", "        pass\n"),
        ),
    ),
    Mutant(
        "every session under the lock has the limit of the write pause",
        "schema_to_schema/table_lock.py",
        "limited(budget, (context.source, context.target, *work.sessions))",
        "limited(budget, (context.source, context.target))",
        _in("integration", "opening", "every_transaction_under"),
    ),
    Mutant(
        "a cancellation at the end of the write pause affects no later statement",
        "postgres/budget.py",
        "        self._timer.join()\n",
        "",
        _in("integration", "opening", "affects_no_later"),
    ),
    Mutant(
        "a side that has lost a reverse pass is detected before a rollback",
        "capture/reverse_apply.py",
        "    if passed > known + 1 or ahead != (True,):",
        "    if False:",
        _in("integration", "reverse_passes", "has_lost_a_pass"),
        (("capture/reverse_apply.py", "    if passed < known:", "    if False:"),),
    ),
    Mutant(
        "a target that lost log rows is detected by its WAL position",
        "capture/reverse_apply.py",
        " or ahead != (True,):",
        ":",
        _in("integration", "reverse_passes", "has_lost_a_pass"),
    ),
    Mutant(
        "a reverse pass must follow the last one recorded on both sides",
        "sql/run_schema.sql",
        "WHERE reverse BETWEEN %(known)s AND %(known)s + 1 AND ",
        "WHERE coalesce(%(known)s, 0) >= 0 AND ",
        _in("integration", "reverse_passes", "both_sides"),
    ),
    Mutant(
        "a reverse pass must have a later WAL position of the target",
        "sql/run_schema.sql",
        "coalesce(target_lsn <= %(lsn)s::pg_lsn, true)",
        "coalesce(%(lsn)s::pg_lsn IS NOT NULL, true)",
        _in("integration", "reverse_passes", "both_sides"),
    ),
    Mutant(
        "a rollback compares every row after a restart of either server",
        "schema_to_schema/reverse_verify.py",
        "    if again:\n",
        "    if False:\n",
        _in("integration", "reverse_verify", "after_a_restart"),
    ),
    Mutant(
        "a row that leaves $where after the cutover is compared with the table itself",
        "schema_to_schema/reverse_verify.py",
        "    if forward.table.where is None:\n        return None\n    back",
        "    if True:\n        return None\n    back",
        _in("integration", "reverse_verify", "leave_where"),
    ),
    Mutant(
        "the target's fingerprint is compared again under the lock",
        "schema_to_schema/cutover.py",
        "        _check_target(context, opening)\n        open_target",
        "        open_target",
        _in("integration", "fingerprint", "ddl_in_the_target_under"),
    ),
    Mutant(
        "a rollback requires a key that keeps later values distinct",
        "plan/reverse.py",
        '        if problem is not None:\n            return f"the key column',
        '        if False:\n            return f"the key column',
        _in("integration", "key_images", "rollback_needs"),
    ),
    Mutant(
        "a rollback compares every row after a rewrite in the target",
        "schema_to_schema/reverse_verify.py",
        "    if rewritten:\n",
        "    if False:\n",
        _in("integration", "reverse_passes", "after_a_rewrite"),
    ),
    Mutant(
        "a source that another run has closed is refused by the plan",
        "schema_to_schema/plan_store.py",
        "    _refuse_closed(source, plan)\n",
        "",
        _in("integration", "two_runs", "another_run_has_closed"),
    ),
    Mutant(
        "a source that another run has closed is refused under the lock",
        "schema_to_schema/cutover.py",
        "    refuse_closed(context, plan, source)\n    _synchronise",
        "    _synchronise",
        _in("integration", "two_runs", "only_one_target"),
    ),
    Mutant(
        "a source with a table unknown to the run is not dropped",
        "commands/cleanup.py",
        "            cleanup.refuse_unknown_tables(source, run)\n            cleanup.drop",
        "            cleanup.drop",
        _in("integration", "cleanup", "created_later"),
        (
            (
                "commands/cleanup.py",
                "            cleanup.refuse_unknown_tables(source, run)\n    confirm()",
                "            pass\n    confirm()",
            ),
        ),
    ),
)


def break_rule(mutant: Mutant, folder: Path) -> None:
    """Copy the project to ``folder`` and break the rule there."""
    for name in COPIED:
        path = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(path, folder / name, ignore=ignored) if path.is_dir() else shutil.copy(path, folder)
    for path, old, new in ((mutant.path, mutant.old, mutant.new), *mutant.too):
        file = folder / "src/confiture" / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{mutant.rule}: {text.count(old)} times in {path}"
        file.write_text(text.replace(old, new), encoding="utf-8")


def noticed(mutant: Mutant) -> tuple[bool, str]:
    """Whether a test fails for the mutant, and the last lines of pytest's output."""
    with tempfile.TemporaryDirectory() as folder:
        break_rule(mutant, Path(folder))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests],
            cwd=folder, env={**os.environ, "PYTHONPATH": f"{folder}/src"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    # Exit code 1 means that a test failed. No test at all, or an error of pytest, does not detect the mutant.
    return done.returncode == 1, done.stdout[-1500:]


def main() -> None:
    """Run every mutant; exit with 1 if a mutant survives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="only rules whose name contains this text")
    chosen = parser.parse_args()
    todo = [m for m in MUTANTS if chosen.only in m.rule]
    lived = 0
    with ThreadPoolExecutor(chosen.workers) as pool:
        for mutant, (dead, output) in zip(todo, pool.map(noticed, todo), strict=True):
            lived += not dead
            print(f"{'killed' if dead else 'LIVES '}  {mutant.rule}  ({mutant.tests[0]})", flush=True)
            if not dead:
                print(output, flush=True)
    print(f"{len(todo) - lived} of {len(todo)} killed")
    sys.exit(1 if lived else 0)


if __name__ == "__main__":
    main()
