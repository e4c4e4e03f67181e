"""The report for a change request as one HTML document, in light colours and for paper. Nothing is loaded."""

from __future__ import annotations

import base64
import hashlib

from markupsafe import Markup

from confiture.status.sign_off import SignOff
from confiture.web.page import asset, environment


def html(report: SignOff) -> str:
    """The document."""
    style = asset("page.css") + asset("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = environment().get_template("report.html")
    return template.render(it=report, style=Markup(style), digest=f"sha256-{digest}")
