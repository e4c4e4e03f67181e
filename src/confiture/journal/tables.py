"""The control tables as SQLAlchemy Core sees them; ``migrations_state/`` is what creates them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Double, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB, UUID

_meta = sa.MetaData(schema="confiture")


def _table(name: str, *columns: Column[object]) -> Table:
    return Table(name, _meta, *columns)


def _at(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True))


run = _table(
    "run",
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("medium", Text),
    Column("state", Text),
    _at("state_since"),
    _at("started_at"),
    Column("epoch", BigInteger),
    Column("source_name", Text),
    Column("source_conninfo", Text),
    Column("source_identity", JSONB),
    Column("target_name", Text),
    Column("target_identity", JSONB),
    Column("options", JSONB),
    Column("fdw", JSONB(none_as_null=True)),
    Column("mapping", Text),
    Column("mapping_file", Text),
    Column("plan", JSONB(none_as_null=True)),
    Column("plan_hash", Text),
    Column("writes_served_by", Text),
    Column("cutover_phase", Text),
    Column("blocked_reason", Text),
    Column("blocked_command", Text),
    Column("tool_version", Text),
    Column("reads_phase", Text),
    _at("reads_since"),
    Column("reads_limit", Double),
)
event = _table(
    "event",
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    Column("run_id", UUID(as_uuid=True)),
    _at("at"),
    Column("epoch", BigInteger),
    Column("kind", Text),
    Column("actor", Text),
    Column("from_state", Text),
    Column("to_state", Text),
    Column("detail", JSONB),
)
runner = _table(
    "runner",
    Column("run_id", UUID(as_uuid=True)),
    Column("epoch", BigInteger),
    Column("host", Text),
    Column("pid", Integer),
    Column("command", Text),
    Column("tool_version", Text),
    Column("target_backends", JSONB),
    Column("source_backends", JSONB),
    _at("started_at"),
    _at("heartbeat_at"),
    _at("ended_at"),
    Column("ended_why", Text),
    Column("throttled_reason", Text),
    _at("throttled_since"),
)
step = _table(
    "step",
    Column("run_id", UUID(as_uuid=True)),
    Column("phase", Text),
    Column("name", Text),
    Column("status", Text),
    _at("begun_at"),
    _at("done_at"),
)
built_object = _table(
    "built_object",
    Column("run_id", UUID(as_uuid=True)),
    Column("number", Integer),
    Column("kind", Text),
    Column("identity", Text),
)
deferred_object = _table(
    "deferred_object",
    Column("run_id", UUID(as_uuid=True)),
    Column("kind", Text),
    Column("schema_name", Text),
    Column("table_name", Text),
    Column("name", Text),
    Column("definition", Text),
    Column("interim", Text),
    Column("comment", Text),
    Column("detail", JSONB),
    Column("status", Text),
)
table_plan = _table(
    "table_plan",
    Column("run_id", UUID(as_uuid=True)),
    Column("number", Integer),
    Column("target_schema", Text),
    Column("target_table", Text),
    Column("source_schema", Text),
    Column("source_table", Text),
    Column("plan", JSONB),
    Column("estimate", BigInteger),
    Column("phase", Text),
    Column("fingerprint", JSONB(none_as_null=True)),
    Column("cursor_key", JSONB(none_as_null=True)),
    Column("next_chunk", Integer),
    Column("sealed", Boolean),
    Column("rows_done", BigInteger),
    _at("started_at"),
    _at("finished_at"),
)
chunk = _table(
    "chunk",
    Column("run_id", UUID(as_uuid=True)),
    Column("table_number", Integer),
    Column("number", Integer),
    Column("lower_key", JSONB(none_as_null=True)),
    Column("upper_key", JSONB(none_as_null=True)),
    Column("status", Text),
    Column("attempts", Integer),
    Column("rows", BigInteger),
    Column("seconds", Double),
    Column("epoch", BigInteger),
    _at("done_at"),
    Column("error", JSONB(none_as_null=True)),
)
verification = _table(
    "verification",
    Column("run_id", UUID(as_uuid=True)),
    Column("number", Integer),
    _at("started_at"),
    _at("ended_at"),
    Column("epoch", BigInteger),
    Column("plan_hash", Text),
    Column("purpose", Text),
    Column("servers", JSONB),
    Column("verdict", Text),
)
verified_unit = _table(
    "verified_unit",
    Column("run_id", UUID(as_uuid=True)),
    Column("verification", Integer),
    Column("check_name", Text),
    Column("subject", Text),
    Column("unit", Integer),
    Column("source_rows", BigInteger),
    Column("target_rows", BigInteger),
    Column("hashes", JSONB),
    Column("equal", Boolean),
    _at("at"),
)
difference = _table(
    "difference",
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    Column("run_id", UUID(as_uuid=True)),
    Column("verification", Integer),
    Column("check_name", Text),
    Column("subject", Text),
    Column("kind", Text),
    Column("key", JSONB(none_as_null=True)),
    Column("column_name", Text),
    Column("source_value", Text),
    Column("target_value", Text),
)
catchup = _table(
    "catchup",
    Column("run_id", UUID(as_uuid=True)),
    Column("pass", BigInteger),
    Column("keys", BigInteger),
    Column("rows", BigInteger),
    Column("backlog", BigInteger),
    Column("oldest", Double),
    Column("reverse", BigInteger),
    _at("at"),
    _at("fresh_at"),
)
verification_round = _table(
    "verification_round",
    Column("run_id", UUID(as_uuid=True)),
    Column("number", Integer),
    Column("verification", Integer),
    _at("started_at"),
    _at("ended_at"),
    Column("table_number", Integer),
    Column("unit", Integer),
)
#: A view.
complete_verification = _table("complete_verification", Column("run_id", UUID(as_uuid=True)), _at("began_at"))
changed_key = _table(
    "changed_key",
    Column("run_id", UUID(as_uuid=True)),
    Column("table_number", Integer),
    Column("key", JSONB),
)
request = _table(
    "request",
    Column("id", BigInteger, sa.Identity(always=True), primary_key=True),
    Column("run_id", UUID(as_uuid=True)),
    Column("kind", Text),
    Column("detail", JSONB),
    Column("actor", Text),
    _at("at"),
)
