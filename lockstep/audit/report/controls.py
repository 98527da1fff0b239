"""The controls that people are asked about, and what the report says of each.

The wording is our own and short. Nothing here says that a control is met: that is an assessor's judgement.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lockstep.audit.report.data import Report
from lockstep.audit.report.words import many, number, span
from lockstep.audit.verify import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One control.

    Attributes:
        asks: What it asks for, in our words.
        shown: What this report shows of it.
        missing: What it does not show.
    """

    framework: str
    reference: str
    asks: str
    shown: tuple[str, ...]
    missing: str


def controls(report: Report) -> Iterator[Control]:
    """The controls, with the report's figures."""
    yield Control(
        framework="PCI DSS v4.0.1",
        reference="8.3 (with 8.6.3)",
        asks="Passwords are strong, are protected on their way and where they are kept, and do not live for ever. "
        "8.3 is about people; for accounts of applications 8.6.3 asks for a change as often as the risk analysis says, "
        "and at once when somebody else may know the password.",
        shown=(
            *_ages(report),
            *_emergencies(report),
            *_strength(report),
            *_transport(report),
        ),
        missing="Accounts of people; the risk analysis that sets the interval; how the secrets managers encrypt; "
        "accounts that are not in the plan.",
    )
    yield Control(
        framework="SOC 2",
        reference="CC6.1",
        asks="Access to what is protected is restricted, and the credentials for it are managed for as long as they "
        "exist.",
        shown=(*_dead(report), *_behind(report), *_integrity(report)),
        missing="Who may read the secrets, and who did; what the accounts may do in the databases; the network.",
    )
    yield Control(
        framework="ISO/IEC 27001:2022",
        reference="A.5.17",
        asks="Passwords and other proofs of identity are given out and managed by a process that is under control, "
        "and changed when they may be known.",
        shown=(*_process(report), *_takeovers(report), *_emergencies(report)),
        missing="What people are told about handling passwords; how the first login of each account came to be.",
    )


def _ages(report: Report) -> Iterator[str]:
    ages = [age for c in report.credentials if (age := c.figures.longest_age)]
    rotations = sum(c.figures.rotations for c in report.credentials)
    yield f"{many(rotations, 'change')} of password; the oldest one in use became {span(max(ages, default=None))} old."
    over = sum(len(c.gaps) for c in report.credentials)
    yield (
        f"{many(over, 'gap')} without a change, longer than a fault of one cloud explains; each is listed with what "
        "the log says of it."
        if over
        else "No time without a change was longer than a fault of one cloud explains."
    )


def _emergencies(report: Report) -> Iterator[str]:
    all_of_them = [e for c in report.credentials for e in c.emergencies]
    if not all_of_them:
        yield "No password was revoked in the period."
        return
    took = [e.over.at - e.ordered.at for e in all_of_them if e.over and e.ordered]
    yield (
        f"{many(len(all_of_them), 'revocation')} on suspicion or by choice; the slowest took "
        f"{span(max(took, default=None))} from the order until the old password was refused everywhere."
    )
    unfinished = sum(e.over is None for e in all_of_them)
    if unfinished:
        yield f"{many(unfinished, 'revocation')} not finished on record."


def _strength(report: Report) -> Iterator[str]:
    lengths = {c.credential.password_policy.length for c in report.credentials}
    if lengths:
        yield f"New passwords have at least {min(lengths)} random characters, by today's plan."


def _transport(report: Report) -> Iterator[str]:
    open_ones = sorted({p.database for c in report.credentials for p in c.proofs if p.plaintext})
    yield (
        f"Reached without TLS, as the plan consents: {', '.join(open_ones)}."
        if open_ones
        else "No database on record was reached without TLS."
    )


def _dead(report: Report) -> Iterator[str]:
    dead = sum(c.figures.proven_dead for c in report.credentials)
    logins = sum(c.figures.refused_logins for c in report.credentials)
    yield f"{many(dead, 'old password')} shown dead by {many(logins, 'refused login')}, on every database each."
    unproven = sum(len(c.figures.unproven) for c in report.credentials)
    if unproven:
        yield f"{many(unproven, 'old password')} not shown dead on record."


def _behind(report: Report) -> Iterator[str]:
    by_hand = sum(b.forced for c in report.credentials for b in c.behind)
    orders = [order for c in report.credentials for order in c.orders]
    who = {order.who for order in orders}
    yield (
        f"Who was behind each run: {number(by_hand)} forced; {many(len(orders), 'order')} by "
        f"{many(len(who), 'identity', 'identities')}, each named."
    )


def _integrity(report: Report) -> Iterator[str]:
    checks = [check for c in report.credentials for check in c.checks]
    good = sum(c.verdict in {Verdict.VERIFIED, Verdict.NOT_WITNESSED} for c in checks)
    yield f"{good} of {many(len(checks), 'chain')} of signed entries verified: none missing, none changed."


def _process(report: Report) -> Iterator[str]:
    failed = sum(c.figures.failed for c in report.credentials)
    yield f"One signed entry for each change; {many(failed, 'failed run')}, each with the name of its error."
    plans = sum(max(len(c.plans) - 1, 0) for c in report.credentials)
    yield f"{many(plans, 'change')} of the plan under which passwords are changed."


def _takeovers(report: Report) -> Iterator[str]:
    enrolled = sum(p.enrolled for c in report.credentials for p in c.proofs)
    yield f"{many(enrolled, 'account')} taken over without a login that worked, by a recorded consent."
