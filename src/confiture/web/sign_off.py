"""The report for a change request as one HTML document, in light colours and for paper. Nothing is loaded."""

from __future__ import annotations

import base64
import hashlib

from markupsafe import Markup

from confiture.status.sign_off import SignOff
from confiture.types import byte_size, duration
from confiture.web.page import asset, environment

#: Seconds below which a time is shown with two digits after the point.
SHORT_SECONDS = 60


def html(report: SignOff) -> str:
    """The document."""
    style = asset("page.css") + asset("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = environment().get_template("report.html")
    return template.render(it=report, style=Markup(style), digest=f"sha256-{digest}", measured=_measured)


def _measured(number: float, unit: str) -> str:
    """A number with its unit; a short time with two digits after the point."""
    if unit == "bytes":
        return byte_size(number)
    return duration(number) if number >= SHORT_SECONDS else f"{number:.2f} s"
