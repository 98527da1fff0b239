"""From what verification found to the evidence that the report is built from: the only seam between the two."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from lockstep.audit.report.data import Check, CredentialEvidence, StreamEvidence, Verdict
from lockstep.audit.report.text import whole
from lockstep.audit.verify import Verification
from lockstep.model import Credential

_DOUBTED = re.compile(r"entry (\d{1,16}) (?:has a MAC|is signed with a key|does not name the hash)")


def evidence(
    credential: Credential, found: Sequence[Verification], unreachable: Mapping[str, str]
) -> CredentialEvidence:
    """The evidence of one credential.

    Args:
        credential: As the plan has it.
        found: Of each stream that was read.
        unreachable: Why each other stream was not.
    """
    read = [_stream(verification, found, alone=len(found) < 2) for verification in found]  # noqa: PLR2004 - both clouds
    lost = [
        StreamEvidence(check=Check(stream=stream, verdict=Verdict.UNREACHABLE, error=error))
        for stream, error in unreachable.items()
    ]
    return CredentialEvidence(
        credential=credential, streams=tuple(sorted([*read, *lost], key=lambda s: s.check.stream))
    )


def _stream(verification: Verification, found: Sequence[Verification], *, alone: bool) -> StreamEvidence:
    stream, entries = verification.stream, verification.entries
    named = [
        entry.witness[stream][0]
        for other in found
        if other is not verification
        for entry in other.entries
        if stream in entry.witness
    ]
    tail = [entry for entry in entries if entry.seq > max(named, default=0)]
    good = Verdict.NOT_WITNESSED if alone else Verdict.VERIFIED
    return StreamEvidence(
        check=Check(
            stream=stream,
            verdict=good if verification.verified else Verdict.NOT_VERIFIED,
            entries=len(entries),
            witnessed=verification.witnessed,
            unwitnessed=None if alone else len(tail),
            unwitnessed_since=None if alone or not tail else _time(tail[0].event),
            problems=tuple(verification.problems),
        ),
        events=[(entry.seq, entry.event) for entry in entries],
        doubtful={
            int(match[1]): problem for problem in verification.problems if (match := _DOUBTED.match(problem))
        },
    )


def _time(event: Mapping[str, object]) -> datetime | None:
    milliseconds = whole(event.get("time"))
    try:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
