"""The examples and exit codes that the help of each command prints."""

from __future__ import annotations

_Codes = dict[int | str, str]

_SCHEMA = "confiture migrate schema-to-schema "
_TOP = ("build", "demo", "status", "grants", "init", "schema")

#: Examples for each command, without the words that every command of its group begins with.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "setup": (
        "setup --source prod --target prod_new --mapping mapping.yaml",
        "setup --source prod --target prod_new --dry-run",
    ),
    "migrate": ("migrate --target prod_new", "migrate --target prod_new --max-rate 20000"),
    "verify": ("verify --target prod_new", "verify --target prod_new --repair"),
    "cutover": ("cutover --target prod_new --dry-run", "cutover --target prod_new --max-write-pause 2"),
    "rollback": ("rollback --target prod_new --dry-run", "rollback --target prod_new"),
    "cleanup": ("cleanup --target prod_new", "cleanup --target prod_new --drop-source prod --yes"),
    "plan": (
        "plan --source prod --target prod_new",
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
    "grants": ("grants --from-source --target prod_new > grants.sql",),
    "init": ("init",),
    "schema": ("schema status", "schema plan > plan.json"),
    "build": ("build --env prod --apply", "build --env prod --output schema.sql"),
    "demo": ("demo", "demo --keep"),
    "status": ("status", "status --target prod_new --watch", "status --target prod_new --wait verified --timeout 7200"),
}
PREFIXES = {name: _SCHEMA for name in EXAMPLES if name not in _TOP}

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
    **{name: {**_DONE, **_READ} for name in ("plan", "preview", "grants", "pause", "resume", "throttle")},
    **{name: {0: "done", 2: _READ[2], 4: _READ[4]} for name in ("init", "schema")},
    "build": {**_DONE, **_READ, 5: "SQL failure; nothing is built"},
    "demo": {**_DONE, 1: "failed; the output shows where"},
    "status": _STATUS,
}
