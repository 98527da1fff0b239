"""An entry of the audit log: its seal, and the events of runs and orders that it holds.

The seal of an entry: its place in the chain, and what vouches for it (protocol E2, E3).

The seal is `chain` and `mac` of the entry, and in the same canonical text the metadata of its object. So a HEAD shows
all that a chain is continued by, and the MAC covers all of it: the body of an archived object cannot be read at once,
and metadata can be written by anyone who may put an object.

    chain   {credential, differs, event, format, previous_hash, rotation_id, seq, stepped_over, stream, time}
    mac     {algorithm, key_id, value}

`event` is the SHA-256 of the event's canonical form. The MAC is HMAC-SHA-256 over the SHA-256 of `chain`. The entry's
hash is the SHA-256 of the canonical form of `chain` and `mac` together.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NoReturn

from msgspec import Meta, convert, field

from lockstep import __version__
from lockstep.protocol import model
from lockstep.protocol.messages import FailedRun, Run
from lockstep.protocol.model import ChainHead
from lockstep.protocol.ports import AuditLog, Mac, Signer, chain_folder
from lockstep.protocol.strict_json import Message, matching

NO_PREVIOUS = "0" * 64
ORDER = "order-"
"""The beginning of the id of an operator's order, which stands in the place of a run's id."""
MAC_ALGORITHM = "HMAC-SHA-256"
CHAIN, MAC = "chain", "mac"
"""The names of the metadata."""
Hash = Annotated[str, matching("[0-9a-f]{64}")]
Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""No boolean or fraction; a larger number is not in canonical JSON (RFC 8785)."""


class Differs(Message):
    """The entry that the lock record's head names, where the log does not hold it (protocol E7).

    Attributes:
        seq: Its number.
        hash: Its hash, as the head names it.
        found: The hash of what the log holds there; None if that is nothing, or no entry.
    """

    seq: Whole
    hash: str
    found: str | None


class Seal(Message):
    """The place of an entry in a chain; as JSON it is `chain`.

    Attributes:
        rotation_id: The id of the run or the order.
        time: Of the event, in milliseconds since the epoch.
        event_hash: The SHA-256 of the event's canonical form.
        stepped_over: The first and the last number since `previous_hash` that hold what is no entry of this chain.
        differs: What was missing when this entry was written.
    """

    credential: str
    stream: str
    seq: Whole
    previous_hash: Hash
    rotation_id: str
    time: Whole
    event_hash: Hash = field(name="event")
    stepped_over: tuple[Whole, Whole] | None
    differs: Differs | None
    format: Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object of the log, by its metadata. Nothing of it is to be believed before its MAC was verified.

    Attributes:
        number: The number in the object's name.
        hash: What the next entry names; empty if the metadata are no seal's.
        seal: None if the metadata are no seal's.
        digest: What the MAC covers.
        mac: None if there is none.
        is_newer: Whether its format is a newer build's; `seal` is None then.
    """

    number: int
    hash: str = ""
    seal: Seal | None = None
    digest: bytes = b""
    mac: Mac | None = None
    is_newer: bool = False

    def is_at(self, folder: str, stream: str) -> bool:
        """Whether the seal names the place where it was found, by the chain's folder or its credential."""
        s = self.seal
        if s is None or (s.stream, s.seq) != (stream, self.number):
            return False
        return chain_folder(s.credential) == chain_folder(folder)

    @property
    def head(self) -> ChainHead:
        """The head of the chain that ends with this entry."""
        return ChainHead(seq=self.number, hash=self.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEnd:
    """Where a chain ends.

    Attributes:
        after: Its last entry; None if it has none.
        seq: The number of the next one.
        stepped_over: The first and the last number before `seq` that hold what is no entry.
        differs: What the head vouches for and the log does not hold.
    """

    after: Stored | None
    seq: int
    stepped_over: tuple[int, int] | None = None
    differs: Differs | None = None


def mac_text(mac: Mac) -> bytes:
    """A MAC as canonical JSON: keys of KMS and of Vault are named in ASCII."""
    named, value = json.dumps(mac.key_id), base64.b64encode(mac.value).decode()
    return f'{{"algorithm":"{MAC_ALGORITHM}","key_id":{named},"value":"{value}"}}'.encode()


def hash_of(chain: bytes, mac: bytes) -> str:
    """An entry's hash, from the canonical texts of its chain and its MAC."""
    return hashlib.sha256(b'{"chain":' + chain + b',"mac":' + mac + b"}").hexdigest()


def look(log: AuditLog, number: int) -> Stored:
    """The object under a number of a log, by its metadata; where there is none, what is no entry."""
    return stored(number, log.look(number) or {})


def stored(number: int, metadata: Mapping[str, str]) -> Stored:
    """An object by its metadata, whatever they hold."""
    try:
        chain, mac = metadata[CHAIN].encode(), metadata[MAC].encode()
        document = read_json(chain)
        is_newer = convert(document["format"], Whole) > model.FORMAT
        return Stored(
            number=number,
            hash=hash_of(chain, mac),
            seal=None if is_newer else read_seal(document),
            digest=hashlib.sha256(chain).digest(),
            mac=read_mac(read_json(mac), mac),
            is_newer=is_newer,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Stored(number=number)


def read_seal(document: object) -> Seal:
    """A seal from its JSON.

    Raises:
        ValueError: It is none.
    """
    return convert(document, Seal)


def is_of_a_run(entry_id: str) -> bool:
    """Whether an entry is a run's. An order's is not: any number of them may come at any time."""
    return not entry_id.startswith(ORDER)


def signer_of(signer: Signer, entry_id: str) -> Signer:
    """The keys of a stream that sign an entry: an order's are not those of all others (protocol E3)."""
    return signer.orders if entry_id.startswith(ORDER) else signer


def is_signed(signer: Signer, found: Stored) -> bool:
    """Whether an object is signed by the keys for such an entry; one of a newer format by any of the stream."""
    if found.mac is None:
        return False
    keys = [signer_of(signer, found.seal.rotation_id)] if found.seal else [signer, signer.orders]
    return any(key.verify(found.digest, found.mac) for key in keys)


def read_mac(document: object, given: bytes) -> Mac:
    """A MAC from its JSON and the text of that, which has exactly its keys, and its value in canonical base64.

    Raises:
        ValueError: It is none.
    """
    mac = convert(document, Mac)
    if mac_text(mac) != given or not mac.key_id.isascii():
        raise ValueError
    return mac


def read_json(given: bytes) -> Any:  # noqa: ANN401 - any JSON
    """The value of a JSON text without fractions.

    Raises:
        ValueError, RecursionError: It is none.
    """
    return _decoder.decode(given.decode())


def _refuse(_text: str) -> NoReturn:
    raise ValueError


_decoder = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)


# The event of an audit entry, in the form of OCSF 1.5, which security lakes and SIEMs read without conversion.
#
# Class Account Change (3001), activity Password Change (3); https://schema.ocsf.io/1.5.0/classes/account_change.
# Fields without an OCSF attribute are in `unmapped.lockstep`. The event holds names, numbers and outcomes, and no
# secret value (protocol I6).

CLASS_UID = 3001
ACTIVITY_PASSWORD_CHANGE, ACTIVITY_OTHER = 3, 99
STATUS_SUCCESS, STATUS_FAILURE = 1, 2
SEVERITY_INFORMATIONAL, SEVERITY_HIGH = 1, 4
PROFILES = ["cloud"]
"""An event has the attribute `cloud` by this profile; https://schema.ocsf.io/1.5.0/profiles/cloud."""


def event_of(request: Run, *, usernames: tuple[str, ...], now: datetime) -> dict[str, Any]:
    """The event that records one run.

    Args:
        request: What the steps reported.
        usernames: The logins that the credential uses in databases.
        now: The time at which the run ended.
    """
    rotation, failed = request.rotation, isinstance(request, FailedRun)
    return {
        **_account_change(
            rotation.rotation_id, rotation.credential_id, rotation.runner, _details(request, usernames), now
        ),
        "activity_id": ACTIVITY_PASSWORD_CHANGE,
        "activity_name": "Password Change",
        "type_uid": CLASS_UID * 100 + ACTIVITY_PASSWORD_CHANGE,
        "start_time": milliseconds(rotation.started_at),
        "end_time": milliseconds(now),
        "severity_id": SEVERITY_HIGH if failed else SEVERITY_INFORMATIONAL,
        "status_id": STATUS_FAILURE if failed else STATUS_SUCCESS,
        "status": "Failure" if failed else "Success",
        **({"status_code": request.error} if isinstance(request, FailedRun) else {}),
        "actor": {"app_name": "lockstep", "app_uid": f"lockstep/{rotation.runner}"},
    }


def event_of_order(
    name: str,
    details: Mapping[str, Any],
    *,
    entry_id: str,
    credential_id: str,
    stream: str,
    who: str,
    now: datetime,
) -> dict[str, Any]:
    """The event that records an order: Account Change has no activity for it, so it is Other (99), with a name.

    Args:
        name: The order's name.
        details: Its fields.
        entry_id: The id of the order.
        credential_id: The credential that it is for.
        stream: `aws` or `oci`, the cloud in which it was recorded.
        who: The cloud's name of the identity that gave it.
        now: When it was given.
    """
    return {
        **_account_change(entry_id, credential_id, stream, {"order": name, **details}, now),
        "activity_id": ACTIVITY_OTHER,
        "activity_name": f"Order: {name}",
        "type_uid": CLASS_UID * 100 + ACTIVITY_OTHER,
        "severity_id": SEVERITY_INFORMATIONAL,
        "status_id": STATUS_SUCCESS,
        "status": "Success",
        "actor": {"app_name": "lockstep", "app_uid": "lockstep/cli", "user": {"name": who, "uid": who}},
    }


def _account_change(
    entry_id: str, credential_id: str, stream: str, details: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """What every event has."""
    return {
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS_UID,
        "class_name": "Account Change",
        "time": milliseconds(now),
        "user": {"name": credential_id, "uid": credential_id, "type": "System", "type_id": 3},
        "cloud": {"provider": stream.upper()},
        "metadata": {
            "version": "1.5.0",
            "uid": entry_id,
            "profiles": PROFILES,
            "product": {"name": "Lockstep", "vendor_name": "Lockstep", "version": __version__},
        },
        "unmapped": {"lockstep": dict(details)},
    }


def _details(request: Run, usernames: tuple[str, ...]) -> dict[str, Any]:
    rotation, claim = request.rotation, request.claim
    behind = {revoked.database: revoked.behind for revoked in request.revoked}
    return {
        "trigger": rotation.trigger,
        "forced": rotation.force,
        "fence": rotation.fence,
        "kind": claim.kind.value if claim else None,
        "generation": claim.generation if claim else None,
        "base_generation": claim.base_generation if claim else None,
        "adopted_from": request.adopted_from,
        "plan": rotation.plan,
        "replaced": list(rotation.replaced),
        "revoked_on_purpose": sorted({revoked.generation for r in request.revoked for revoked in r.revoked}),
        "usernames": list(usernames),
        "databases": {
            d.database: {
                "outcome": d.outcome.value,
                "revoked": {str(revoked.generation): revoked.revocation.value for revoked in d.revoked},
                "taken_over": d.taken_over,
                "plaintext": d.plaintext,
                "behind": sorted({*d.behind, *behind.get(d.database, ())}),
            }
            for d in request.databases
        },
        "stores": {s.store: s.version for s in request.stores},
    }


def milliseconds(moment: datetime) -> int:
    """Since the epoch."""
    return round(moment.timestamp() * 1000)
