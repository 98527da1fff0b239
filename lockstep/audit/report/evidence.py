"""From what verification found to the evidence that the report is built from: the only seam between the two."""

from collections.abc import Sequence
from datetime import UTC, datetime

from lockstep.audit.append import ORDER, WITNESS
from lockstep.audit.chain import Entry
from lockstep.audit.findings import Problem
from lockstep.audit.report.data import Archived, Check, CredentialEvidence, StreamEvidence
from lockstep.audit.verify import Verification
from lockstep.model import Credential

DOUBTED = (
    "names another run",
    "is signed with a key that was retired",
    "does not name the hash",
    "is missing or different",
)
"""How a problem begins that is about the entry itself; others are about what is missing beside it."""


def evidence(credential: Credential, found: Sequence[Verification]) -> CredentialEvidence:
    """The evidence of one credential.

    Args:
        credential: As the plan has it.
        found: Of each of its streams.
    """
    return CredentialEvidence(credential=credential, streams=tuple(_stream(v) for v in found))


def _stream(v: Verification) -> StreamEvidence:
    return StreamEvidence(
        check=Check(
            stream=v.stream,
            verdict=v.verdict,
            entries=len(v.entries),
            witnessed=v.witnessed,
            unwitnessed=v.unwitnessed,
            unwitnessed_since=_time(v.unwitnessed_since),
            problems=tuple(map(str, v.problems)),
            acknowledged=tuple(map(str, v.acknowledged)),
            notes=tuple(v.notes),
            error=v.unreadable or None,
        ),
        events=[(entry.seq, entry.event) for entry in v.entries if entry.event],
        archived=[_archived(entry) for entry in v.entries if not entry.event],
        doubtful=dict(_doubtful(v.problems)),
    )


def _archived(entry: Entry) -> Archived:
    kinds = {ORDER: "order", WITNESS: "witness"}
    what = next((kind for begin, kind in kinds.items() if entry.rotation_id.startswith(begin)), "run")
    return Archived(seq=entry.seq, at=_time(entry.time), what=what)


def _doubtful(problems: Sequence[Problem]) -> list[tuple[int, str]]:
    return [
        (problem.first, problem.what)
        for problem in problems
        if problem.first and problem.first == problem.end and problem.what.startswith(DOUBTED)
    ]


def _time(milliseconds: int | None) -> datetime | None:
    try:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
