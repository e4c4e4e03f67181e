"""The summary of each command, which its group prints, and the examples and exit codes that its help prints.

The key of a command is its name. That of a command of the group ``migrate`` itself is ``migrate NAME``, because other
groups have commands of the same names; :func:`key` returns it.
"""

from __future__ import annotations

_Codes = dict[int | str, str]

#: The group of the incremental migrations, and of the group of a move.
MIGRATE = "migrate"
_SCHEMA = "confiture migrate schema-to-schema "
#: The commands of the first level. Others without a group in their key are below ``migrate schema-to-schema``.
TOP = ("approve", "build", "demo", "grants", "history", "init", "report", "schema", "serve", "status", "sync")

#: The first sentence of the help of each command, in the order of the help.
SUMMARIES = {
    "setup": "Create the target with its new schema, and begin a run.",
    "migrate": "Copy every table to the target.",
    "verify": "Compare source and target.",
    "cutover": "Switch the application's writes to the target.",
    "rollback": "Switch back to the source without losing a write.",
    "cleanup": "Drop what the run created, after the cutover.",
    "plan": "Print the plan and change nothing.",
    "preview": "Show rows of a table before and after the mapping.",
    "run": "Run setup, migrate and verify; stop before the cutover.",
    "follow": "Apply the application's changes to the target until stopped.",
    "pause": "Pause the running command at its next checkpoint.",
    "resume": "Resume the paused command.",
    "throttle": "Limit the copy.",
    "abort": "Abort the run before the cutover.",
    "migrate up": "Apply the pending migrations.",
    "migrate down": "Revert the newest migrations.",
    "migrate status": "Report which migrations are applied, pending, edited or missing.",
    "migrate baseline": "Record migrations as applied without running them.",
    "migrate generate": "Write the two files of a new migration.",
    "migrate lint": "Find statements that would block the application.",
    "approve": "Approve the cutover of a verified run.",
    "build": "Concatenate the DDL files, build a database from them, or compare one.",
    "demo": "Move a generated database, with a kill -9 during the copy.",
    "grants": "Print the statements for the owners, privileges, comments and security labels that the target lacks.",
    "history": "Print who did what and when in a run.",
    "init": "Create the first files of a project, with examples.",
    "report": "Write the report about a run for a change request.",
    "schema": "Print the JSON schema of a document, or the names of all.",
    "serve": "Serve the page about the run of a target until Ctrl-C.",
    "status": "Report the state of a run and the next command.",
    "sync": "Copy rows of one database into another one, chosen and masked.",
}

#: Examples for each command, without the words that every command of its group begins with.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "setup": (
        "setup --source prod --target prod_new --mapping mapping.yaml",
        "setup --source prod --target prod_new --dry-run",
        "setup --source prod --target prod_new --plan plan.json",
    ),
    "migrate": ("migrate --target prod_new", "migrate --target prod_new --max-rate 20000"),
    "verify": ("verify --target prod_new", "verify --target prod_new --repair"),
    "cutover": ("cutover --target prod_new --dry-run", "cutover --target prod_new --max-write-pause 2"),
    "rollback": ("rollback --target prod_new --dry-run", "rollback --target prod_new"),
    "cleanup": ("cleanup --target prod_new", "cleanup --target prod_new --drop-source prod --yes"),
    "plan": (
        "plan --source prod --target prod_new",
        "plan --source prod --target prod_new --output plan.json",
        "plan --source prod --target prod_new --mapping mapping.yaml --format json",
    ),
    "preview": ("preview --source prod --target prod_new --table tb_user",),
    "run": (
        "run --source prod --target prod_new --mapping mapping.yaml",
        "run --source prod --target prod_new --max-rate 20000",
    ),
    "follow": ("follow --target prod_new", "follow --target prod_new --once"),
    "pause": ("pause --target prod_new",),
    "resume": ("resume --target prod_new",),
    "throttle": ("throttle --target prod_new --max-rate 20000", "throttle --target prod_new --off"),
    "abort": ("abort --target prod_new", "abort --target prod_new --yes"),
    "grants": (
        "grants --from-source --target prod_new > grants.sql",
        "grants --target prod_new --viewer anna --operator ben --apply",
    ),
    "migrate up": (
        "up --target prod --dry-run",
        "up --target prod",
        "up --target prod --to 20261127153000 --lock-timeout 1s",
    ),
    "migrate down": ("down --target prod", "down --target prod --to 20261127153000"),
    "migrate status": ("status --target prod",),
    "migrate baseline": ("baseline 20261127153000 --target prod",),
    "migrate generate": ("generate add_email_to_customer",),
    "migrate lint": (
        "lint",
        "lint --target prod",
        "lint db/migrations/20260301120000_add_email.up.sql --format json",
        "lint --rules",
    ),
    "approve": ("approve --target prod_new --note CHG-1234",),
    "history": ("history --target prod_new", "history --target prod_new --all --format json"),
    "init": ("init",),
    "report": (
        "report --target prod_new --output report.html",
        "report --target prod_new --format json",
    ),
    "schema": ("schema status", "schema plan > plan.json"),
    "build": (
        "build --env prod --apply",
        "build --env prod --check",
        "build --env prod --output schema.sql",
        "build --list",
    ),
    "demo": ("demo", "demo --keep"),
    "serve": ("serve --target prod_new", "serve --target prod_new --host 0.0.0.0 --port 8080 --token-file token"),
    "status": (
        "status",
        "status --target prod_new --watch",
        "status --target prod_new --wait verified --timeout 7200",
        "status --target prod_new --html status.html",
    ),
    "sync": (
        "sync --from production --to local --dry-run",
        "sync --from production --to local --sample 5",
        "sync --from production --to local --where \"orders=placed_at > '2026-01-01'\" --replace",
        "sync --to local --abort",
    ),
}


def key(path: tuple[str, ...]) -> str:
    """The key of the command that the words ``path`` name, without ``confiture``."""
    return " ".join(path) if path[:-1] == (MIGRATE,) else path[-1]


def _prefix(name: str) -> str:
    if name in TOP:
        return "confiture "
    return f"confiture {MIGRATE} " if " " in name else _SCHEMA


#: The words before each example of a command.
PREFIXES = {name: _prefix(name) for name in EXAMPLES}

_DONE: _Codes = {0: "done, or already done"}
_READ: _Codes = {
    2: "usage or configuration",
    3: "cannot connect; retry",
    4: "a precondition is not met; the text names it",
}
_WORK: _Codes = {
    **_DONE,
    **_READ,
    5: "SQL or data failure; completed work is kept",
    6: "another command holds the run, or a lock timed out; retry",
}
_SIGNALS: _Codes = {"129, 130, 143": "stopped by a signal at a checkpoint; run it again"}
_DIFFERENT: _Codes = {7: "verification found differences"}
_SWITCH: _Codes = {
    **_WORK,
    **_DIFFERENT,
    8: "aborted; the same database is still serving; retry",
    9: "not finished: run the same command again",
    **_SIGNALS,
}
_STATUS: _Codes = {
    0: "OK",
    1: "WARNING",
    2: "CRITICAL",
    3: "UNKNOWN, and usage errors",
    124: "--wait timed out",
}

#: The exit codes of each command; ``docs/on-call.md`` has all of them.
EXIT_CODES: dict[str, _Codes] = {
    **{name: {**_WORK, **_SIGNALS} for name in ("setup", "migrate", "cleanup", "abort", "follow")},
    **{name: {**_WORK, **_DIFFERENT, **_SIGNALS} for name in ("verify", "run")},
    **{name: {**_SWITCH} for name in ("cutover", "rollback")},
    **{
        name: {**_DONE, **_READ}
        for name in ("plan", "preview", "grants", "history", "approve", "pause", "resume", "throttle")
    },
    **{name: {0: "done", 2: _READ[2], 4: _READ[4]} for name in ("init", "schema")},
    **{name: {**_WORK, **_SIGNALS} for name in ("migrate up", "migrate down", "migrate baseline")},
    "migrate status": {
        0: "OK: every migration is applied",
        1: "WARNING: a migration is pending",
        2: "CRITICAL: up would refuse, or a migration is unfinished",
        3: "UNKNOWN, and usage errors",
    },
    "migrate generate": {0: "done", 2: _READ[2]},
    "migrate lint": {0: "no finding is an error", 2: _READ[2], 3: _READ[3], 7: "a finding is an error"},
    "build": {
        **_DONE,
        **_READ,
        5: "SQL failure; nothing is built",
        6: "another command checks the database; retry",
        7: "--check found differences",
        "130, 143": "stopped by a signal; nothing is built",
    },
    "demo": {**_DONE, 1: "failed; the output shows where"},
    "report": {**_DONE, **_READ},
    "serve": {0: "ended by Ctrl-C or SIGTERM", 2: _READ[2], 4: "the port cannot be used"},
    "status": _STATUS,
    "sync": {
        **_WORK,
        7: "a clear value is in a masked column, or a foreign key does not hold",
        **_SIGNALS,
    },
}
