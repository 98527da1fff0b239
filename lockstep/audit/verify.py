"""Verification of the audit log (protocol E11). No entry is trusted before it was checked.

1. Every stream holds at least one entry: an empty log is not a verified log.
2. Its entries are numbered 1 … n without a gap, and each names the hash of the one before it.
3. Each MAC was made with the plan's key, or with an older version of it.
4. The lock record's head is the stream's last entry: nothing was cut off or added.
5. Each witness names an entry of the other stream with the same hash: if one cloud's log was cut short together with
   the lock record, the other's contradicts it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lockstep.audit.chain import NO_PREVIOUS, Entry, parse
from lockstep.errors import AuditLogAccessDeniedError, AuditVerificationError
from lockstep.model import ChainHead
from lockstep.ports import AuditLog, Signer

MAX_PROBLEMS = 100
"""Problems reported for one stream. A writer of the bucket can claim any number of entries, and each costs a call."""


@dataclass(kw_only=True)
class Verification:
    """The result for one stream.

    Attributes:
        entries: The parsed entries, in order, as far as they could be read.
        problems: One sentence for each problem; empty if the stream is verified.
        witnessed: The number of witnesses that were checked against the other stream.
    """

    stream: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    witnessed: int = 0

    @property
    def verified(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def verify(
    credential_id: str,
    logs: Sequence[tuple[AuditLog, Signer]],
    heads: Mapping[str, ChainHead],
    *,
    progress: Callable[[str, int], None] = lambda _stream, _seq: None,
) -> list[Verification]:
    """Verify a credential's chains against themselves, its lock record and each other.

    Args:
        credential_id: The credential.
        logs: Each stream with its key.
        heads: The chain heads in the lock record.
        progress: Called with stream and seq after each entry.

    Raises:
        AuditLogUnreachableError: A log or key did not answer, so there is no result (protocol E12).
    """
    found = [_verify_stream(credential_id, log, signer, progress) for log, signer in logs]
    for verification in found:
        _verify_head(verification, heads.get(verification.stream))
    by_stream = {v.stream: v for v in found}
    for verification in found:
        _verify_witnesses(verification, by_stream)
    return found


def _verify_stream(
    credential_id: str, log: AuditLog, signer: Signer, progress: Callable[[str, int], None]
) -> Verification:
    found = Verification(stream=log.stream)
    last_seq = log.last_seq()
    if last_seq == 0:
        found.problems.append("the log is empty")  # (1)
    previous_hash = NO_PREVIOUS
    for seq in range(1, last_seq + 1):
        if len(found.problems) >= MAX_PROBLEMS:
            found.problems.append(f"entries {seq} to {last_seq} were not checked")
            break
        body = log.read(seq)
        if body is None:
            found.problems.append(f"entry {seq} is missing")  # (2)
            previous_hash = ""
            continue
        try:
            entry = parse(body, credential_id=credential_id, stream=log.stream, seq=seq)
        except AuditVerificationError as e:
            found.problems.append(f"entry {seq} is {e.where['code']}")
            previous_hash = ""
            continue
        if previous_hash and entry.previous_hash != previous_hash:
            found.problems.append(f"entry {seq} does not name the hash of entry {seq - 1}")
        if problem := _mac_problem(signer, entry):  # (3)
            found.problems.append(f"entry {seq} {problem}")
        found.entries.append(entry)
        previous_hash = entry.hash
        progress(log.stream, seq)
    return found


def _mac_problem(signer: Signer, entry: Entry) -> str:
    try:
        key = signer if entry.key_id == signer.key_id else signer.of(entry.key_id)
    except AuditLogAccessDeniedError:
        return "is signed with a key that is not the plan's"
    return "" if key.verify(entry.digest, entry.mac) else "has a MAC that does not match"


def _verify_head(found: Verification, head: ChainHead | None) -> None:
    last = found.entries[-1] if found.entries else None
    if head is None:
        found.problems.append("the lock record names no head of this stream")
    elif last is None or (head.seq, head.hash) != (last.seq, last.hash):  # (4)
        found.problems.append(
            f"the lock record's head is entry {head.seq}, the log ends with {last.seq if last else 'nothing'}"
        )


def _verify_witnesses(found: Verification, by_stream: Mapping[str, Verification]) -> None:
    hashes = {name: {e.seq: e.hash for e in v.entries} for name, v in by_stream.items()}
    for entry in found.entries:
        for stream, (seq, entry_hash) in entry.witness.items():
            if stream not in hashes:
                continue
            found.witnessed += 1
            if hashes[stream].get(seq) != entry_hash:  # (5)
                found.problems.append(
                    f"entry {entry.seq} witnesses entry {seq} of {stream}, which is missing or different now"
                )
