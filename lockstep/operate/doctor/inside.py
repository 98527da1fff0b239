"""Looks from inside a deployed function: what its own identity and network allow.

What a function answers to `lockstep doctor --in-cloud`. Each looks at what it uses in a rotation, with the rights that
it has for that; no role gets another right for the doctor. What is looked at is the plan that the function was deployed
with, and nothing is changed.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec import structs

from lockstep.databases.findings import Finding, Outcome, not_asked, passed
from lockstep.operate.doctor.servers import ASK_DATABASES, EVERY_CHECK, Databases, of_error
from lockstep.plan.compiled import CompiledPlan, FederationToAws, FederationToOci
from lockstep.plan.published import Index
from lockstep.protocol.deadlines import CloudTimeouts, DatabaseTimeouts, Timeouts, check_scope
from lockstep.protocol.errors import (
    InvalidPlanError,
    InvalidRequestError,
    LockstepError,
    SessionFailure,
    StoreUnreachableError,
    UnexpectedError,
)
from lockstep.protocol.messages import DoctorRequest
from lockstep.protocol.model import Credential
from lockstep.protocol.strict_json import Message, MessageError, read, write
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import Cloud, identity_of
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import hosted_source
from lockstep.stores.credential import CredentialStore

SESSION, ACCESS = "inside.session", "inside.access"
TIMEOUTS = Timeouts(
    cloud=CloudTimeouts(connect_seconds=3, read_seconds=5),
    database=DatabaseTimeouts(connect_seconds=3, io_seconds=5, lock_seconds=2, idle_seconds=30),
)
"""Shorter than a rotation's: a look must end before its function does."""
MOST_CREDENTIALS = 100
"""More fit neither into the time of a function nor into the 6 MB of a reply."""
_PROBE = hashlib.sha256(b"lockstep doctor").digest()
"""What is signed to see that it can be: no entry has it."""


class Reply(Message, kw_only=True):
    """What a function has found, without a secret.

    Attributes:
        findings: From where it runs.
        refused: The names of the databases that have refused a login: no other place shows them one.
        plans: The digest of each credential, by the plan that it was deployed with.
    """

    findings: tuple[Finding, ...]
    refused: tuple[str, ...] = ()
    plans: Mapping[str, str]


def answer(event: object, *, function: str) -> dict[str, Any]:
    """Look once, as the function's own identity. The calls belong to the scope that is open.

    Args:
        event: A `DoctorRequest`, from outside: it can only leave something out.
        function: Its name in findings.

    Raises:
        InvalidRequestError: The event is none.
        InvalidPlanError: The function has no valid plan.
        UnexpectedError: A bug, or a foreign error.
    """
    try:
        request: DoctorRequest = read(DoctorRequest, event)
    except MessageError:
        raise InvalidRequestError from None
    try:
        return _answered(request, function)
    except LockstepError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence before the platform prints it
        raise UnexpectedError(code=type(error).__name__) from None


def _answered(request: DoctorRequest, function: str) -> dict[str, Any]:
    source = hosted_source()
    index = source.index
    ids = [credential.id for credential in index.credentials[:MOST_CREDENTIALS]] if _LOOKS[function] else []
    plans = at_the_same_time([partial(source.of, key) for key in ids])
    found = tuple(plan.found(key) for plan, key in zip(plans, ids, strict=True))
    plan = structs.replace(index.plan, credentials=found)
    clouds = Clouds(
        source,
        identity_of(function),
        timeouts=TIMEOUTS,
        clock=SystemClock(),
        deadline_guard=check_scope,
    )
    return write(looked(plan, index, clouds, function=function, silent=frozenset(request.silent)))


def looked(
    plan: CompiledPlan, index: Index, clouds: Clouds, *, function: str, silent: frozenset[str]
) -> Reply:
    """What a function finds.

    Args:
        plan: Its own, with the credentials that it looks at.
        index: Of all credentials.
        clouds: As its identity reaches them.
        function: Its name in findings.
        silent: The names of databases to which no login is shown.
    """
    databases = Databases(plan.credentials, clouds, where=function, silent=silent)
    asks_databases = function in ASK_DATABASES
    asks = [partial(ask, clouds, plan) for ask in _LOOKS[function]]
    asks += [partial(databases.found, *EVERY_CHECK)] * asks_databases
    found = [finding for findings in clouds.side_by_side(asks) for finding in findings]
    left_out = len(index.credentials) - MOST_CREDENTIALS
    if found and left_out > 0:
        says = f"a function looks at the first {MOST_CREDENTIALS} credentials of its plan"
        found.insert(0, not_asked(found[0].check, f"{left_out} credentials", says))
    return Reply(
        findings=tuple(structs.replace(finding, where=function) for finding in found),
        refused=tuple(sorted(databases.refused)) if asks_databases else (),
        plans={credential.id: credential.plan_digest for credential in index.credentials},
    )


Inspection = Callable[[Clouds, CompiledPlan], list[Finding]]


def _tried(check: str, subject: str, look: Callable[[], str]) -> Finding:
    """What a look has found, or why it could not."""
    try:
        return passed(check, subject, look())
    except LockstepError as error:
        return of_error(check, subject, error)


# ---- The session in the other cloud: one is made and used, which nothing outside of the function can try


def _session(subject: str, look: Callable[[], str]) -> Finding:
    found = _tried(SESSION, subject, look)
    if found.outcome is not Outcome.FAILED:
        return found
    choices = f"{found.command} Where the account does not allow it, choose: docs/identity.md#choices"
    return structs.replace(found, command=choices)


def session_in_aws(clouds: Clouds, plan: CompiledPlan) -> list[Finding]:
    """The function of OCI."""
    if not isinstance(plan.to_aws, FederationToAws):
        return []
    return [_session("session in AWS", partial(_signed_in, clouds, "aws"))]


def session_in_oci(clouds: Clouds, plan: CompiledPlan) -> list[Finding]:
    """A function of AWS that reads secrets in OCI."""
    if not isinstance(plan.to_oci, FederationToOci):
        return []
    session = _session("session in OCI", partial(_signed_in, clouds, "oci"))
    if session.outcome is not Outcome.PASSED:
        return [session]
    return [session, _session("Vault", partial(_vault, clouds, plan))]


def _signed_in(clouds: Clouds, cloud: Cloud) -> str:
    try:
        clouds.sign_in(cloud)
    except SessionFailure as failure:
        # No port has turned it into its own; where nothing else is known there was no answer.
        raise failure.problem or StoreUnreachableError(code=failure.code) from None
    return "it is given"


def _vault(clouds: Clouds, plan: CompiledPlan) -> str:
    for store in clouds.each_store(plan.credentials[0]):
        if plan.vault and store.name == plan.vault.name:
            store.read_login()
    return "it takes the session, and its policies let the principal read"


# ---- The lock record, the stores, the audit log and its key


def _records(clouds: Clouds, plan: CompiledPlan) -> list[Finding]:
    return [_tried(ACCESS, one.id, partial(_record, clouds, one)) for one in plan.credentials]


def _record(clouds: Clouds, credential: Credential) -> str:
    record = clouds.lock(credential).read()
    return f"its lock record is read; generation {record.current_generation or 0} is current"


def _stores(clouds: Clouds, plan: CompiledPlan) -> list[Finding]:
    return [
        _tried(ACCESS, f"{credential.id} in {store.name}", partial(_store, store))
        for credential in plan.credentials
        for store in clouds.each_store(credential)
    ]


def _store(store: CredentialStore) -> str:
    value = store.read_current()
    if value.malformed:
        raise value.malformed
    what = f"generation {value.generation}" if value.login else "a placeholder"
    return f"both secrets are read; it serves {what}"


def _log(clouds: Clouds, plan: CompiledPlan, *, home: Cloud) -> list[Finding]:
    entries = [_tried(ACCESS, one.id, partial(_entries, clouds, one, home)) for one in plan.credentials]
    return [*entries, _tried(ACCESS, f"signing key in {home}", partial(_signed, clouds, home))]


def _entries(clouds: Clouds, credential: Credential, home: Cloud) -> str:
    has = "no entry yet" if clouds.log(home, credential.id).look(1) is None else "entries"
    return f"its log in {home} is read; it has {has}"


def _signed(clouds: Clouds, home: Cloud) -> str:
    signer = clouds.signer(home)
    mac = signer.sign(_PROBE)
    if home == "aws" and signer.orders.verify(_PROBE, mac):
        # One key by two names: orders need a key of their own.
        raise InvalidPlanError(path="audit.aws.order_key")
    return "it signs"


_LOOKS: Mapping[str, tuple[Inspection, ...]] = {
    "aws/generate": (session_in_oci, _records, _stores),
    "aws/apply_db": (session_in_oci, _records),
    "aws/update_secrets": (session_in_oci, _stores),
    "aws/audit": (_records, partial(_log, home="aws")),
    # It reads the index alone, and an alarm tells when it cannot read the lock table.
    "aws/watch": (),
    "oci/rotate": (session_in_aws, _records, _stores, partial(_log, home="oci")),
}
"""What each function looks at, beside the databases."""
