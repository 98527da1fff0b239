"""The report as one HTML page: no script, no request, and a policy that forbids both.

The policy names the style sheet by its hash.
"""

import base64
import hashlib
from functools import cache

from jinja2 import Environment

from lockstep.audit.report import charts, views
from lockstep.audit.report.controls import controls
from lockstep.audit.report.data import Report
from lockstep.audit.report.folds import folds
from lockstep.audit.verify import Verdict
from lockstep.html.filling import environment, style

LOOKS = {
    Verdict.VERIFIED: "good",
    Verdict.EMPTY: "warn",
    Verdict.NOT_WITNESSED: "warn",
    Verdict.UNREADABLE: "warn",
    Verdict.NOT_VERIFIED: "bad",
}


@cache
def _environment() -> Environment:
    return environment("lockstep.audit.report")


def page(report: Report) -> str:
    """The page. The same report gives the same text."""
    templates = _environment()
    digest = hashlib.sha256(style(templates, "page.css").encode()).digest()
    return templates.get_template("page.html.j2").render(
        r=report,
        style_hash=base64.b64encode(digest).decode(),
        looks=LOOKS,
        sentence=views.verdict_sentence(report),
        overview=views.overview(report),
        figures=views.figures,
        checks=views.checks,
        problems=views.problems,
        folds=folds,
        charts=charts,
        controls=list(controls(report)),
    )
