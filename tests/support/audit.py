"""Runs pip-audit on the packages of an installation. Alone, it passes packages that it could not look up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def judged(report: dict[str, Any]) -> tuple[int, str]:
    """The exit code and what to print for a report of pip-audit, in its JSON format.

    0: no package has a known vulnerability. 1: one has. 2: none is known, but not every package was audited.
    """
    packages = report["dependencies"]
    faults = [
        f"{p['name']} {p['version']}: {v['id']}, fixed in {', '.join(v['fix_versions']) or 'no version'}"
        for p in packages
        for v in p.get("vulns", ())
    ]
    missed = [p["name"] for p in packages if "skip_reason" in p]
    audited = f"{len(packages) - len(missed)} of {len(packages)} packages audited"
    if missed or not packages:
        faults.append(
            f"not audited: {', '.join(missed) or 'any package'}. PyPI did not report whether these are vulnerable."
        )
    code = 1 if any("vulns" in p and p["vulns"] for p in packages) else 2 if faults else 0
    return code, "\n".join([*faults, audited])


def main() -> int:
    """Audit the project in the current folder."""
    words = [Path(sys.executable).parent / "pip-audit", "--format", "json", "--progress-spinner", "off", "."]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        print(f"nothing was audited: {(done.stderr.strip().splitlines() or ['pip-audit failed'])[-1]}")
        return 2
    code, text = judged(report)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
