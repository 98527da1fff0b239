"""The report as one HTML page of tables: no script, no request, and a policy that forbids both.

The policy names the style sheet by its hash. Tables and figures are in the template `credential.html.j2`.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

from jinja2 import Environment

from lockstep.audit.confirmed import Verdict
from lockstep.operate.formatting import many
from lockstep.operate.html.templates import environment, style
from lockstep.operate.report.data import Check, CredentialReport, Report

LOOKS = {
    Verdict.VERIFIED: "good",
    Verdict.NOT_CONFIRMED: "warn",
    Verdict.EMPTY: "warn",
    Verdict.UNREADABLE: "warn",
    Verdict.NOT_VERIFIED: "bad",
}
MOST_PROBLEMS = 100


@cache
def _environment() -> Environment:
    return environment("lockstep.operate.report")


def page(report: Report) -> str:
    """The page. The same report gives the same text."""
    templates = _environment()
    digest = hashlib.sha256(style(templates, "page.css").encode()).digest()
    return templates.get_template("page.html.j2").render(
        r=report,
        style_hash=base64.b64encode(digest).decode(),
        looks=LOOKS,
        sentence=verdict_sentence(report),
        problems=problems,
        uncounted=uncounted,
    )


def verdict_sentence(report: Report) -> str:
    """What the verdict means."""
    all_of_them = [check for c in report.credentials for check in c.checks]
    digests = [check for check in report.digests if check.verdict is Verdict.NOT_VERIFIED]
    entries = many(sum(check.entries for check in all_of_them), "signed entry", "signed entries")
    bad = sum(check.verdict is Verdict.NOT_VERIFIED for check in all_of_them)
    lost = sum(check.verdict is Verdict.UNREADABLE for check in all_of_them)
    match report.verdict:
        case Verdict.VERIFIED:
            return (
                f"{entries} in {many(len(all_of_them), 'chain')}: none is missing, changed or swapped. "
                "What is younger than the newest confirmed digest can have been cut off."
            )
        case Verdict.NOT_CONFIRMED:
            return (
                f"{entries} in {many(len(all_of_them), 'chain')}: none is missing, changed or swapped. But for three "
                "hours no digest of a cloud was confirmed by the other one: what was cut off since would not be seen."
            )
        case Verdict.EMPTY:
            return "There is no entry yet, so there is nothing to show."
        case Verdict.UNREADABLE:
            return (
                f"{many(lost, 'chain')} of {len(all_of_them)} could not be read, so nothing is said about it."
            )
        case _:
            return (
                f"{bad} of {many(len(all_of_them), 'chain')}, digests of {many(len(digests), 'cloud')}: there are "
                "problems, listed below. "
                "Entries with a wrong signature or hash are not counted."
            )


def problems(checks: Sequence[Check]) -> Iterator[tuple[str, str, str]]:
    """What verification found: the stream, the kind and the text, worst first for each stream."""
    for check in checks:
        stream = check.stream.upper()
        for text in check.problems[:MOST_PROBLEMS]:
            yield stream, "problem", text
        if len(check.problems) > MOST_PROBLEMS:
            yield stream, "problem", f"and {len(check.problems) - MOST_PROBLEMS} more, in JSON"
        if check.error:
            yield stream, "unreachable", check.error
        for text in check.notes[:MOST_PROBLEMS]:
            yield stream, "note", text


def uncounted(report: CredentialReport) -> Iterator[tuple[str, str, str, list[int]]]:
    """The entries that do not count: chain, kind and reason, with the numbers of those that have them."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for other in report.others:
        if other.why:
            found.setdefault((other.stream.upper(), other.what, other.why), []).append(other.seq)
    for place, entries in found.items():
        yield *place, entries
