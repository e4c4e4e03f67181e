"""``status --html`` and ``serve``: the page about a real run, its answers, and the ways in which it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

import small_move
from confiture.postgres.embedded import Server
from forked import Forks, Running, until
from projects import run_confiture
from servers import Databases
from small_move import SmallMove

#: A table that a browser would run, and a column.
OLD = (
    small_move.SOURCE
    + """
CREATE TABLE "<script>alert(1)</script>" (id int PRIMARY KEY, "a<b" text);
INSERT INTO "<script>alert(1)</script>" SELECT n, 'secret ' || n FROM generate_series(1, 5) n;
"""
)
MAPPING = (
    small_move.MAPPING
    + """
'"<script>alert(1)</script>"':
  $from: '"<script>alert(1)</script>"'
"""
)


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Served:
    """A server that is running, and what it has printed."""

    command: Running
    port: int

    def get(self, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        """The answer to one request."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read().decode())
        finally:
            connection.close()

    @property
    def printed(self) -> str:
        """Everything that the command has printed."""
        return self.command.out.read_text() + self.command.err.read_text()


@pytest.fixture(scope="module")
def move(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallMove]:
    """A run in which the verification has found differences."""
    databases = Databases(server)
    made = small_move.make(databases, tmp_path_factory.mktemp("serving"), source=OLD, mapping=MAPPING)
    ddl = made.project / "db/schema/10_tables/tables.sql"
    ddl.write_text(ddl.read_text() + 'CREATE TABLE "<script>alert(1)</script>" (id int PRIMARY KEY, "a<b" text);')
    made.setup()
    made.run("migrate")
    made.target.as_the_run("""UPDATE "<script>alert(1)</script>" SET "a<b" = '<b>evil</b>' WHERE id = 3""")
    made.run("verify", code=7)
    yield made
    databases.drop_all()


@pytest.fixture
def serve(forks: Forks, move: SmallMove, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers, which end with the test."""
    running: list[Running] = []

    def start(*options: str) -> Served:
        names = ["--target", move.target.name, "--project", str(move.project), "--port", "0"]
        command = forks.start(["serve", *names, *options], tmp_path, XDG_STATE_HOME=str(tmp_path / "state"))
        running.append(command)
        until(lambda: "until Ctrl-C" in command.out.read_text(), "the address of the server")
        port = re.search(r"http://\S+:(\d+)/", command.out.read_text())
        assert port is not None
        return Served(command, int(port[1]))

    yield start
    for command in running:
        if command.pid in forks._left:
            command.signal(signal.SIGKILL)
            command.wait()


def html(move: SmallMove, path: Path, *more: str, code: int = 2) -> str:
    names = ("--target", move.target.name, "--project", str(move.project))
    run_confiture("status", *names, "--html", str(path), *more, cwd=path.parent, check=code)
    return path.read_text() if code == 2 else ""


def test_a_file_hides_the_values_of_rows_unless_they_are_wanted(move: SmallMove, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    hidden = html(move, file)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hidden
    assert hidden.count("<script>") == 1
    assert "secret 3" not in hidden
    repeated = hidden.partition("The SQL that repeats the comparison")[2]
    assert re.findall(r"<h3><bdi>(.*?)</bdi>", repeated)[0] == "&#34;&lt;script&gt;alert(1)&lt;/script&gt;&#34;"
    assert repeated.count("On the source:") == 4
    assert "FROM &#34;public&#34;.&#34;post&#34;" in repeated
    assert "evil" not in hidden
    shown = html(move, file, "--show-values")
    assert "secret 3" in shown
    assert "&lt;b&gt;evil&lt;/b&gt;" in shown
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".*")) == []


def test_a_file_that_cannot_be_written_is_named(move: SmallMove, tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "page.html", tmp_path):
        names = ("--target", move.target.name, "--project", str(move.project), "--html", str(path))
        done = run_confiture("status", *names, cwd=tmp_path, check=3)
        assert f"{path} cannot be written" in done.stderr
        assert "Traceback" not in done.stderr
        assert "Writes go to" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_watch_continues_while_its_file_cannot_be_written(move: SmallMove, tmp_path: Path, forks: Forks) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    names = ("--target", move.target.name, "--project", str(move.project))
    watch = forks.start(["status", *names, "--html", str(folder / "page.html"), "--watch", "0.2"], tmp_path)
    until((folder / "page.html").exists, "the first page")
    folder.rename(tmp_path / "moved")
    until(lambda: "cannot be written" in watch.err.read_text(), "the error of the page")
    printed = watch.out.read_text().count("Writes go to")
    until(lambda: watch.out.read_text().count("Writes go to") > printed, "the next report")
    folder.mkdir()
    until((folder / "page.html").exists, "the page that is written again")
    watch.signal(signal.SIGINT)
    watch.wait()


def test_a_server_answers_four_paths_and_changes_nothing(serve: Callable[..., Served], move: SmallMove) -> None:
    served = serve()
    page = served.get()
    assert page.status == 200
    assert "verification found 1 difference" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert "server" not in page.headers
    document = json.loads(served.get("/status.json").text)
    assert document["severity"] == "CRITICAL"
    assert {table["checkpoint"] for table in document["runs"][0]["tables"]} == {None}  # keys are values of rows
    assert served.get("/metrics").text.rstrip().endswith("# EOF")
    assert served.get("/healthz").text == "ok\n"
    assert served.get("/", "HEAD").text == ""
    assert served.get("/../etc/passwd").status == served.get("/x").status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert served.get("/", method).status == 405
    refused = served.get(Host="evil.example")
    assert refused.status == 421
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert move.target.name not in refused.text


def test_a_server_ends_at_once_and_successfully(serve: Callable[..., Served]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        served = serve()
        with socket.create_connection(("127.0.0.1", served.port)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")  # a request that is never complete
            assert served.get().status == 200
            began = time.monotonic()
            served.command.signal(number)
            assert served.command.wait().code == 0, served.printed
            assert time.monotonic() - began < 30
        assert "Traceback" not in served.printed


def test_a_port_that_is_in_use_is_named(serve: Callable[..., Served], move: SmallMove, tmp_path: Path) -> None:
    port = serve().port
    names = ("--target", move.target.name, "--project", str(move.project))
    done = run_confiture("serve", *names, "--port", str(port), cwd=tmp_path, check=4)
    assert f"port {port} of 127.0.0.1 cannot be used" in done.stderr
    assert "--port" in done.stderr


def test_a_server_for_other_machines_requires_its_token(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve("--host", "0.0.0.0")
    file = tmp_path / "state" / "confiture" / "serve.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    refused = served.get()
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    for path in ("/status.json", "/metrics"):
        assert served.get(path).status == 401
    assert served.get("/healthz").status == 200
    assert served.get(Authorization=f"Bearer {token}").status == 200
    assert served.get(Authorization=f"Bearer {token}x").status == 401
    assert str(file) in served.printed
    assert token not in served.printed


def test_a_target_that_disappears_leaves_a_stale_page(serve: Callable[..., Served], move: SmallMove) -> None:
    served = serve()
    assert "This page is stale" not in served.get().text
    name = move.target.name
    with Databases(move.target.server)._admin() as admin:
        admin.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_elsewhere"'.encode())
        try:
            until(lambda: "This page is stale" in served.get().text, "the stale page")
            page = served.get().text
            assert "verification found 1 difference" in page
            assert 'class="foot old"' in page
            assert json.loads(served.get("/status.json").text)["severity"] == "UNKNOWN"
            assert 'confiture_report_severity="UNKNOWN"} 1' in served.get("/metrics").text
            assert served.get("/healthz").status == 200
        finally:
            admin.execute(f'ALTER DATABASE "{name}_elsewhere" RENAME TO "{name}"'.encode())
    until(lambda: "This page is stale" not in served.get().text, "the page of now")
