"""From what verification found to the evidence that the report is built from: the only seam between the two."""

from collections.abc import Sequence
from datetime import UTC, datetime

from lockstep.audit.append import ORDER, WITNESS
from lockstep.audit.report.data import Archived, Check, CredentialEvidence, StreamEvidence, Verdict
from lockstep.audit.verify import Verdict as Found
from lockstep.audit.verify import Verification
from lockstep.model import Credential

_VERDICTS = {
    Found.VERIFIED: Verdict.VERIFIED,
    Found.NOT_WITNESSED: Verdict.NOT_WITNESSED,
    Found.EMPTY: Verdict.EMPTY,
    Found.NOT_VERIFIED: Verdict.NOT_VERIFIED,
    Found.UNREADABLE: Verdict.UNREACHABLE,
}


def evidence(credential: Credential, found: Sequence[Verification]) -> CredentialEvidence:
    """The evidence of one credential.

    Args:
        credential: As the plan has it.
        found: Of each stream.
    """
    streams = sorted((_stream(verification) for verification in found), key=lambda s: s.check.stream)
    return CredentialEvidence(credential=credential, streams=tuple(streams))


def _stream(found: Verification) -> StreamEvidence:
    since = found.unwitnessed_since
    return StreamEvidence(
        check=Check(
            stream=found.stream,
            verdict=_VERDICTS[found.verdict],
            entries=len(found.entries),
            witnessed=found.witnessed,
            unwitnessed=found.unwitnessed,
            unwitnessed_since=None if since is None else _time(since),
            problems=tuple(map(str, found.problems)),
            acknowledged=tuple(map(str, found.acknowledged)),
            notes=tuple(found.notes),
            error=found.unreadable or None,
        ),
        events=[(entry.seq, entry.event) for entry in found.entries if entry.event],
        archived=tuple(
            Archived(seq=entry.seq, at=at, what=_kind(entry.rotation_id))
            for entry in found.entries
            if not entry.event and (at := _time(entry.time))
        ),
        doubtful={
            entry.seq: str(problem)
            for problem in found.problems
            if problem.first
            for entry in found.entries
            if problem.first <= entry.seq <= (problem.end or 0)
        },
    )


def _kind(entry_id: str) -> str:
    if entry_id.startswith(WITNESS):
        return "witness"
    return "order" if entry_id.startswith(ORDER) else "run"


def _time(milliseconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
