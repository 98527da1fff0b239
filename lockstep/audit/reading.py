"""Reading one object of a log for verification: an entry, or what is wrong with it (protocol E11, E12)."""

from typing import NamedTuple

from lockstep.audit.chain import Entry, entry_of, parse
from lockstep.audit.seal import Stored, look
from lockstep.errors import AuditLogUnreachableError, AuditVerificationError, NewerFormatError
from lockstep.ports import AuditLog, Signer

NOT_RESTORED = "NotRestored"
"""The code of the error for an archived object."""


class Object(NamedTuple):
    """What stands under a number: an entry, or what is wrong with it; and its hash, if it has one."""

    number: int
    entry: Entry | None
    wrong: str = ""
    hash: str = ""
    archived: bool = False


def read_object(credential_id: str, log: AuditLog, signer: Signer, number: int) -> Object:
    """The object under a number.

    Raises:
        AuditLogUnreachableError, AuditLogAccessDeniedError: The log or a key cannot be asked.
        NewerFormatError: A newer build wrote it.
    """
    try:
        body = log.read(number)
    except AuditLogUnreachableError as error:
        if error.where.get("code") != NOT_RESTORED:
            raise
        return _archived(credential_id, log, signer, number)
    if body is None:
        return Object(number, None, "is gone: it was deleted meanwhile")
    try:
        entry = parse(body, credential_id=credential_id, stream=log.stream, seq=number)
    except AuditVerificationError as error:
        return Object(number, None, f"is {error.where['code']}")
    except NewerFormatError:
        return _of_a_newer_format(log, signer, number)
    if not signer.verify(entry.digest, entry.mac):
        return Object(
            number, None, f"has a MAC that does not match, of key {entry.mac.key_id[:200]}", entry.hash
        )
    wrong = _unlike_its_event(entry)
    return Object(number, entry, wrong, entry.hash)


def _of_a_newer_format(log: AuditLog, signer: Signer, number: int) -> Object:
    """Nothing can be said of an entry that a newer build wrote; anybody can write that one did."""
    found = look(log, number) or Stored(number=number)
    if found.mac and signer.verify(found.digest, found.mac):
        raise NewerFormatError(stream=log.stream, seq=number)
    return Object(number, None, "is of an unknown format, without a MAC of this chain's key", found.hash)


def _unlike_its_event(entry: Entry) -> str:
    metadata = entry.event.get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    return "" if uid == entry.rotation_id else "names another run than its event"


def _archived(credential_id: str, log: AuditLog, signer: Signer, number: int) -> Object:
    found = look(log, number) or Stored(number=number)
    if not (found.seal and found.mac and found.is_at(credential_id, log.stream)):
        return Object(number, None, "is archived, and its metadata are no seal", archived=True)
    if not signer.verify(found.digest, found.mac):
        return Object(number, None, "has a MAC that does not match", found.hash, archived=True)
    entry = entry_of(found.seal, {}, mac=found.mac, digest=found.digest, entry_hash=found.hash)
    return Object(number, entry, "", found.hash, archived=True)
