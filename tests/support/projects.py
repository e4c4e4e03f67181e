"""Projects for tests: a folder with ``db/``, an old database, and the commands that run on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from confiture.cli import main
from forked import forks
from servers import TestDatabase

Done = subprocess.CompletedProcess[str]

#: An old schema with a foreign key, a sequence and a trigger. The mapping renames and transforms columns.
OLD = """
CREATE TABLE tb_user (id bigint PRIMARY KEY, login_name text NOT NULL, settings_json text, name text);
CREATE TABLE tb_post (id serial PRIMARY KEY, user_id bigint REFERENCES tb_user, body text);
INSERT INTO tb_user SELECT n, 'login' || n, '{"n": 1}', 'name' || n FROM generate_series(1, 300) n;
INSERT INTO tb_post (user_id, body) SELECT n % 300 + 1, 'body' || n FROM generate_series(1, 500) n;
ANALYZE;
"""
USER_DDL = """CREATE TABLE tb_user (
    id bigint PRIMARY KEY,
    username text NOT NULL UNIQUE,
    metadata jsonb,
    name text
);
"""
POST_DDL = """CREATE TABLE tb_post (
    id serial PRIMARY KEY,
    user_id bigint REFERENCES tb_user ON DELETE CASCADE,
    body text
);
CREATE INDEX ix_post_user ON tb_post (user_id);
"""
MAPPING = """tb_user:
  login_name: username
  metadata:
    source_column: settings_json
    transform: "settings_json::jsonb"
"""


def run_confiture(*arguments: str, cwd: Path, env: dict[str, str] | None = None, check: int | None = None) -> Done:
    """Run ``confiture ARGUMENTS`` as a process of its own; ``check`` is the expected exit code."""
    ended = forks().run(list(arguments), cwd, **(env or {}))
    if check is not None:
        assert ended.code == check, f"exit {ended.code}\n{ended.out}\n{ended.err}"
    return Done(["confiture", *arguments], ended.code, ended.out, ended.err)


def call_confiture(*arguments: str, cwd: Path, env: dict[str, str], check: int | None = None) -> Done:
    """Run ``confiture`` within this process without a terminal, which saves a second of imports."""
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        open(os.devnull) as nothing,
        contextlib.chdir(cwd),
        patch.dict(os.environ, env),
        patch.multiple(sys, argv=["confiture", *arguments], stdin=nothing, stdout=out, stderr=err),
    ):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    if check is not None:
        assert code == check, f"exit {code}\n{texts[0]}\n{texts[1]}"
    return Done(["confiture", *arguments], code, *texts)


@dataclass(frozen=True)
class Project:
    """A folder with the new schema's DDL, a mapping, and the environment ``prod``.

    :ivar folder: the project's folder, where commands run.
    :ivar env: added to the environment variables of every command.
    :ivar capture: False for an application that is stopped.
    """

    folder: Path
    source: TestDatabase
    target: str
    env: dict[str, str] = field(default_factory=dict)
    capture: bool = False

    def __post_init__(self) -> None:
        self.write("db/environments/prod.yaml", f"database_url: {self.source.conninfo}\n")
        self.write("db/schema/10_tables/10_user.sql", USER_DDL)
        self.write("db/schema/10_tables/20_post.sql", POST_DDL)
        self.write("column_mapping.yaml", MAPPING)

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def run(
        self,
        *arguments: str,
        check: int | None = 0,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        apart: bool = False,
    ) -> Done:
        """Run any command, in the project's folder unless ``cwd`` names another one.

        :param apart: run it as a process of its own. A command that is to be killed always is one.
        """
        env = {**self.env, **(env or {})}
        how = run_confiture if apart or any(name.startswith("CONFITURE_") for name in env) else call_confiture
        return how(*arguments, cwd=cwd or self.folder, env=env, check=check)

    def step(self, name: str, *arguments: str, **options: Any) -> Done:
        """Run one of the steps, with ``--target``."""
        stopped = () if self.capture or name not in ("plan", "setup", "run") else ("--no-capture",)
        return self.run("migrate", "schema-to-schema", name, "--target", self.target, *stopped, *arguments, **options)

    def setup(self, *arguments: str, **options: Any) -> Done:
        """Run ``setup --source prod --target ... --mapping ...``."""
        mapped = () if "--mapping" in arguments else ("--mapping", "column_mapping.yaml")
        return self.step("setup", "--source", "prod", *mapped, *arguments, **options)

    def reach(self, state: str) -> None:
        """Run the steps that lead to ``state``."""
        self.setup()
        for step, after in (("migrate", "migrating"), ("verify", "verified"), ("cutover", "cutover")):
            if state == "setup":
                return
            self.step(step)
            if state == after:
                return

    @property
    def new(self) -> TestDatabase:
        """The target database."""
        return TestDatabase(self.source.server, self.target)

    @property
    def state(self) -> str:
        """The state of the run in the journal."""
        return str(self.new.value("SELECT state FROM confiture.run ORDER BY started_at DESC LIMIT 1"))


def error(done: Done) -> str:
    """The error of a failed command, whose form is checked: what, why, what to do; no traceback, no colours."""
    lines = [line for line in done.stderr.splitlines() if line]
    start = next(n for n, line in enumerate(lines) if line.startswith("confiture: "))
    reported = lines[start:]
    assert len(reported) >= 3, f"an error states what, why and what to do:\n{done.stderr}"
    assert all(line.startswith("  ") for line in reported[1:]), done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    return "\n".join(reported)
