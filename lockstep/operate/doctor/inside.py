"""Looks from inside a deployed function: what its own identity and network allow.

What a function answers to `lockstep doctor --in-cloud`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from msgspec import structs

from lockstep.databases.findings import Finding, failed, not_asked, passed
from lockstep.operate.doctor.servers import ASK_DATABASES, EVERY_CHECK, Databases, is_out_of_time, sentence
from lockstep.plan.compiled import ClientKey, CompiledPlan, FederationToAws, FederationToOci
from lockstep.plan.published import Index, PlanSource
from lockstep.protocol.deadlines import CloudTimeouts, DatabaseTimeouts, Timeouts, check_scope
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    Environment,
    EnvironmentalError,
    InvalidRequestError,
    LockstepError,
    LockTableAccessDeniedError,
    RetryableError,
    SessionFailure,
    StoreAccessDeniedError,
    UnexpectedError,
    described,
)
from lockstep.protocol.messages import DoctorRequest
from lockstep.protocol.model import Credential
from lockstep.protocol.strict_json import Message, MessageError, read, write
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import Cloud, identity_of
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import endpoints_from_environment, hosted_source
from lockstep.stores.credential import CredentialStore

SESSION, ACCESS = "inside.session", "inside.access"


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


# Each function looks at what it uses in a rotation, with the rights that it has for that; no role gets another
# right for the doctor. What is looked at is the plan that the function was deployed with, and nothing is changed.
#
#     function              looks at
#     aws/generate          the lock record, both secrets in each store
#     aws/apply_db          the lock record, the databases, `app_user` in each store
#     aws/update_secrets    both secrets in each store
#     aws/audit             the lock record, the audit log and its key
#     aws/watch             the whole lock table
#     oci/rotate            all of these but the table
#
# Each also makes a session in the other cloud, where it has one.

TIMEOUTS = Timeouts(
    cloud=CloudTimeouts(connect_seconds=3, read_seconds=5),
    database=DatabaseTimeouts(connect_seconds=3, io_seconds=5, lock_seconds=2, idle_seconds=30),
)
"""Shorter than a rotation's: a look must end before its function does."""
MOST_CREDENTIALS = 100
"""More fit neither into the time of a function nor into the 6 MB of a reply."""

WATCH = "aws/watch"
"""It reads the index, and no document of a credential."""

Inspection = Callable[[Clouds, CompiledPlan], Iterator[Finding]]
_PROBE = hashlib.sha256(b"lockstep doctor").digest()
"""What is signed to see that it can be: no entry has it."""


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
    plan = index.plan if function == WATCH else _plan(source, index)
    clouds = Clouds(
        plan,
        identity_of(function),
        endpoints=endpoints_from_environment(),
        timeouts=TIMEOUTS,
        clock=SystemClock(),
        deadline_guard=check_scope,
        find=source.of,
    )
    return write(looked(plan, index, clouds, function=function, silent=frozenset(request.silent)))


def _plan(source: PlanSource, index: Index) -> CompiledPlan:
    """The plan with the credentials that are looked at."""
    ids = [credential.id for credential in index.credentials[:MOST_CREDENTIALS]]
    plans = at_the_same_time([partial(source.of, key) for key in ids])
    found = tuple(plan.found(key) for plan, key in zip(plans, ids, strict=True))
    return structs.replace(index.plan, credentials=found)


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
    asks = [partial(_listed, ask, clouds, plan) for ask in _ASKED_BY[function]]
    if function == WATCH:
        asks.append(partial(_table, clouds, index))
    if function in ASK_DATABASES:
        asks.append(partial(_of_databases, databases))
    found = [finding for findings in clouds.side_by_side(asks) for finding in findings]
    left_out = len(index.credentials) - MOST_CREDENTIALS
    if found and left_out > 0 and function != WATCH:
        says = f"a function looks at the first {MOST_CREDENTIALS} credentials of its plan"
        found.insert(0, not_asked(found[0].check, f"{left_out} credentials", says))
    return Reply(
        findings=tuple(structs.replace(finding, where=function) for finding in found),
        refused=tuple(sorted(databases.refused)) if function in ASK_DATABASES else (),
        plans={credential.id: credential.plan_digest for credential in index.credentials},
    )


def _listed(ask: Inspection, clouds: Clouds, plan: CompiledPlan) -> list[Finding]:
    return list(ask(clouds, plan))


def _of_databases(databases: Databases) -> list[Finding]:
    return [finding for check in EVERY_CHECK for finding in databases.found(check)]


# ---- The session in the other cloud: one is made and used, which nothing outside of the function can try

_KEY = "oci_key_secret instead of federation"
_POLICIES = (
    "Compare request.principal.name in the policies with the ARN of the function's role (docs/iam-oci.md)."
)


def session_in_aws(clouds: Clouds, plan: CompiledPlan) -> Iterator[Finding]:
    """The function of OCI."""
    if isinstance(plan.to_aws, FederationToAws):
        failure = _failure(clouds.sign_in, "aws")
        choice = "runners.oci: aws_key_secret instead of federation"
        yield _of_session("session in AWS", failure, f"STS gives one of {plan.to_aws.role_arn}", choice)


def session_in_oci(clouds: Clouds, plan: CompiledPlan) -> Iterator[Finding]:
    """A function of AWS that reads secrets in OCI."""
    federation = plan.to_oci
    if not isinstance(federation, FederationToOci):
        return
    failure = _failure(clouds.sign_in, "oci")
    is_unknown = (
        isinstance(failure, EnvironmentalError) and failure.problem is Environment.DOMAIN_CLIENT_REFUSED
    )
    proof = "kms_key" if isinstance(federation.client, ClientKey) else "client_secret"
    asserted = is_unknown and proof == "kms_key"
    choice = "client_secret: NAME instead of kms_key and certificate" if asserted else _KEY
    says = f"the identity domain gives one for {proof}"
    yield _of_session("session in OCI", failure, says, f"runners.aws: {choice}")
    if failure is None:
        failure = _failure(_read_secret, clouds, plan)
        says = "it takes the session, and its policies let the principal read"
        choice = "token: upst" if federation.token == "rpst" else _KEY  # noqa: S105 - a kind
        yield _of_session("Vault", failure, says, f"runners.aws: {choice}")


def _of_session(subject: str, failure: LockstepError | None, says: str, choice: str) -> Finding:
    """What became of it, and what to choose in the plan where the account does not allow it (docs/identity.md)."""
    if failure is None:
        return passed(SESSION, subject, says)
    if is_out_of_time(failure) or isinstance(failure, RetryableError):
        return not_asked(SESSION, subject, sentence(failure))
    shown = described(failure)
    advice = shown.advice if isinstance(shown, EnvironmentalError) else _POLICIES
    otherwise = f"Where the account does not allow it, choose in {choice}"
    return failed(SESSION, subject, sentence(shown), f"{advice} {otherwise}")


def _read_secret(clouds: Clouds, plan: CompiledPlan) -> None:
    for credential in plan.credentials[:1]:
        for store in clouds.each_store(credential):
            if plan.vault and store.name == plan.vault.name:
                store.read_login()


def _failure(act: Callable[..., object], *arguments: object) -> LockstepError | None:
    """What stops it, as the error that names the side."""
    try:
        act(*arguments)
    except SessionFailure as failure:
        # No port has turned it into its own.
        return failure.problem or LockstepError(code=failure.code)
    except LockstepError as error:
        return error
    return None


# ---- The lock record, the stores, the audit log and its key


def _tried(subject: str, look: Callable[[], str]) -> Finding:
    """What a look has found, or why it could not."""
    try:
        return passed(ACCESS, subject, look())
    except LockstepError as error:
        return _denied(subject, error)


def _denied(subject: str, error: LockstepError) -> Finding:
    if is_out_of_time(error):
        return not_asked(ACCESS, subject, "there was no time left for it")
    shown = described(error)
    if not isinstance(shown, StoreAccessDeniedError | LockTableAccessDeniedError | AuditLogAccessDeniedError):
        return failed(ACCESS, subject, sentence(error), shown.advice)
    rights = "compare the function's role with docs/iam.md and docs/iam-oci.md, and deploy again"
    return failed(ACCESS, subject, sentence(error), rights)


def _records(clouds: Clouds, plan: CompiledPlan) -> Iterator[Finding]:
    for credential in plan.credentials:
        yield _tried(credential.id, partial(_record, clouds, credential))


def _record(clouds: Clouds, credential: Credential) -> str:
    record = clouds.lock(credential).read()
    return f"its lock record is read; generation {record.current_generation or 0} is current"


def _stores(clouds: Clouds, plan: CompiledPlan) -> Iterator[Finding]:
    for credential in plan.credentials:
        for store in clouds.each_store(credential):
            yield _tried(f"{credential.id} in {store.name}", partial(_store, store))


def _store(store: CredentialStore) -> str:
    value = store.read_current()
    what = f"generation {value.generation}" if value.login else "a placeholder"
    return f"both secrets are read; it serves {what}"


def _log(clouds: Clouds, plan: CompiledPlan, *, home: Cloud) -> Iterator[Finding]:
    for credential in plan.credentials:
        yield _tried(credential.id, partial(_entries, clouds, credential, home))
    subject = f"signing key in {home}"
    try:
        signer = clouds.signer(home)
        mac = signer.sign(_PROBE)
        agrees = signer.verify(_PROBE, mac)
        is_one_key = home == "aws" and signer.orders.verify(_PROBE, mac)
    except LockstepError as error:
        yield _denied(subject, error)
        return
    if agrees and not is_one_key:
        yield passed(ACCESS, subject, "it signs, and verifies what it has signed")
        return
    wrong = "it is also the key of orders" if agrees else "it does not verify what it has signed"
    yield failed(ACCESS, subject, wrong, "correct `mac_key` in the plan")


def _entries(clouds: Clouds, credential: Credential, home: Cloud) -> str:
    has = "no entry yet" if clouds.log(home, credential.id).look(1) is None else "entries"
    return f"its log in {home} is read; it has {has}"


def _table(clouds: Clouds, index: Index) -> list[Finding]:
    name = index.plan.lock.table
    try:
        table = clouds.lock_table()
    except LockstepError as error:
        return [_denied(name, error)]
    if table.unreadable:
        says = f"the records of {', '.join(sorted(table.unreadable))} cannot be read"
        return [failed(ACCESS, name, says, "lockstep status")]
    return [passed(ACCESS, name, f"it is read; it has {len(table.records)} records")]


_ASKED_BY: Mapping[str, tuple[Inspection, ...]] = {
    "aws/generate": (session_in_oci, _records, _stores),
    "aws/apply_db": (session_in_oci, _records),
    "aws/update_secrets": (session_in_oci, _stores),
    "aws/audit": (_records, partial(_log, home="aws")),
    WATCH: (),
    "oci/rotate": (session_in_aws, _records, _stores, partial(_log, home="oci")),
}
