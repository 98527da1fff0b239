"""The report as one HTML page: no script, no request, and a policy that forbids both.

Autoescape is on, and nothing is marked as safe. The policy names the style sheet by its hash.
"""

import base64
import hashlib
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from lockstep.audit.report import charts, views, words
from lockstep.audit.report.controls import controls
from lockstep.audit.report.data import Report
from lockstep.audit.report.folds import folds
from lockstep.audit.verify import Verdict

LOOKS = {
    Verdict.VERIFIED: "good",
    Verdict.EMPTY: "warn",
    Verdict.NOT_WITNESSED: "warn",
    Verdict.UNREADABLE: "warn",
    Verdict.NOT_VERIFIED: "bad",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lockstep.audit.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "span": words.span,
        "stamp": words.stamp,
        "minute": words.minute,
        "many": words.many,
        "is_long": words.is_long,
    }
    return environment


def page(report: Report) -> str:
    """The page. The same report gives the same text."""
    environment = _environment()
    style = environment.get_template("page.css").render()
    return environment.get_template("page.html.j2").render(
        r=report,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
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
