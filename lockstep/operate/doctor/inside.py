"""Looks from inside a deployed function: what its own identity, network and clock allow.

What a function answers to `lockstep doctor --in-cloud`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from msgspec import structs

from lockstep.databases.findings import Answer, Finding, failed, not_asked, passed
from lockstep.operate.doctor.network import ASK_DATABASES
from lockstep.operate.doctor.servers import EVERY_CHECK, Databases, is_out_of_time, sentence
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
from lockstep.protocol.strict_json import Instant, Message, MessageError, read, write
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import identity_of
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import endpoints_from_environment, hosted_source


class Reply(Message, kw_only=True):
    """What a function has found, without a secret.

    Attributes:
        findings: From where it runs.
        refused: The names of the databases that have refused a login: no other place shows them one.
        plans: The digest of each credential, by the plan that it was deployed with.
        at: The time by its clock.
    """

    findings: tuple[Finding, ...]
    refused: tuple[str, ...] = ()
    plans: Mapping[str, str]
    at: Instant


# The sessions of a function in the other cloud: one is made and used, which nothing outside of the function can
# try.
#
# Each finding is a fact that documentation leaves open, and names what to choose in the plan where it does not
# hold (docs/identity.md).

SESSION = "inside.session"
PROOF, KEY_SET, VAULT = "application's proof", "AWS's key set", "Vault"
POLICIES, TOKEN, DOCUMENTS, ROLE = "principal in policies", "token", "issuer's documents", "role"
TO_OCI = "session in OCI"
_NOT_TRUSTED = "AccessDenied"
_NOT_AUTHENTICATED = {"NotAuthenticated", "401"}
_BY_CLIENT_SECRET = "client: {secret: NAME} instead of kms_key and certificate"  # noqa: S105 - no secret
_BY_KEY = "oci_key_secret instead of federation"
_AS_USER = "token: upst"
_WITH_ACCESS_KEY = "aws_key_secret instead of federation"

Found = Iterator[tuple[str, Answer]]


def in_aws(clouds: Clouds, plan: CompiledPlan) -> Found:
    """The function of OCI."""
    if not isinstance(plan.to_aws, FederationToAws):
        return
    failure = _failure(clouds.sign_in, "aws")
    if failure:
        subject = _of_aws(failure)
        if subject != TOKEN:
            yield SESSION, passed(TOKEN, "OCI signs it")
        if subject == ROLE:
            yield SESSION, not_asked(DOCUMENTS, "STS does not say whether it has read them")
        yield SESSION, _failed(subject, failure, _instead("runners.oci", _WITH_ACCESS_KEY))
        return
    yield SESSION, passed(TOKEN, "OCI signs it")
    yield SESSION, passed(DOCUMENTS, "STS reads them in their bucket")
    yield SESSION, passed(ROLE, f"STS gives a session of {plan.to_aws.role_arn}")


def _of_aws(failure: LockstepError) -> str:
    """What is wrong. STS also refuses a token as invalid where it cannot read the key set."""
    match failure:
        case EnvironmentalError(problem=Environment.ISSUER_TOKEN_REFUSED) if (
            failure.where.get("code") == _NOT_TRUSTED
        ):
            return ROLE
        case EnvironmentalError(problem=Environment.ISSUER_TOKEN_REFUSED | Environment.ISSUER_UNREADABLE):
            return DOCUMENTS
    return TOKEN


def in_oci(clouds: Clouds, plan: CompiledPlan) -> Found:
    """A function of AWS that reads secrets in OCI."""
    federation = plan.to_oci
    if not isinstance(federation, FederationToOci):
        return
    failure = _failure(clouds.sign_in, "oci")
    if failure:
        for answer in _refused(failure, federation):
            yield SESSION, answer
        return
    yield SESSION, passed(PROOF, _proven(federation))
    yield SESSION, passed(KEY_SET, "the domain verifies AWS's token by it")
    yield from _used(_failure(_read_secret, clouds, plan), federation)


def _proven(federation: FederationToOci) -> str:
    what = (
        "an assertion by the key in KMS" if isinstance(federation.client, ClientKey) else "the client secret"
    )
    return f"the domain takes {what} beside a token exchange"


def _refused(failure: LockstepError, federation: FederationToOci) -> Iterator[Answer]:
    """Why there is no session in OCI. The domain looks at the application first."""
    match failure:
        case EnvironmentalError(problem=Environment.DOMAIN_CLIENT_REFUSED):
            with_key = isinstance(federation.client, ClientKey)
            yield _failed(PROOF, failure, _instead("runners.aws", _BY_CLIENT_SECRET if with_key else _BY_KEY))
            yield not_asked(KEY_SET, "the domain looks at it only for an application that it knows")
        case EnvironmentalError(problem=Environment.DOMAIN_TOKEN_REFUSED):
            yield passed(PROOF, _proven(federation))
            yield _failed(KEY_SET, failure, _instead("runners.aws", _BY_KEY))
        case EnvironmentalError(problem=Environment.WEB_IDENTITY_DISABLED):
            yield _failed(TOKEN, failure, "")
        case _:
            yield _failed(TO_OCI, failure, "")


def _used(failure: LockstepError | None, federation: FederationToOci) -> Found:
    """What Vault says to the session, and then what its policies say to the principal."""
    principal = "the function's role" if federation.token == "rpst" else "the service user"  # noqa: S105 - a kind
    code = str(failure.where.get("code")) if failure else ""
    if failure is None:
        yield SESSION, passed(VAULT, "it takes the session")
        yield SESSION, passed(POLICIES, f"they let {principal} read")
    elif code in _NOT_AUTHENTICATED:
        other = _AS_USER if federation.token == "rpst" else _BY_KEY  # noqa: S105 - likewise
        yield SESSION, _failed(VAULT, failure, _instead("runners.aws", other))
        yield SESSION, not_asked(POLICIES, f"{VAULT} does not take the session")
    elif is_out_of_time(failure) or isinstance(failure, RetryableError):
        yield SESSION, not_asked(VAULT, sentence(failure))
    else:
        name = "whether request.principal.name in the policies is the ARN of the function's role (docs/iam-oci.md)"
        yield SESSION, passed(VAULT, "it takes the session")
        yield SESSION, _failed(POLICIES, failure, f"see {name}; {_instead('runners.aws', _AS_USER)}")


def _read_secret(clouds: Clouds, plan: CompiledPlan) -> None:
    for credential in plan.credentials[:1]:
        for store in clouds.each_store(credential):
            if plan.vault and store.name == plan.vault.name:
                store.read_login()


def _failure(act: Callable[..., object], *arguments: object) -> LockstepError | None:
    """What stops it, as the error that names the side."""
    try:
        with _describe():
            act(*arguments)
    except LockstepError as error:
        return error
    return None


@contextmanager
def _describe() -> Iterator[None]:
    """An error of ours instead of a failure to make a session, which no port has turned into its own."""
    try:
        yield
    except SessionFailure as failure:
        raise (failure.problem or LockstepError(code=failure.code)) from None


def _failed(subject: str, error: LockstepError, otherwise: str) -> Answer:
    if is_out_of_time(error):
        return not_asked(subject, "there was no time left for it")
    shown = described(error)
    advice = " ".join(text for text in (shown.advice or error.advice, otherwise) if text)
    return failed(subject, sentence(shown), advice)


def _instead(runner: str, choice: str) -> str:
    return f"Where the account does not allow it, choose in {runner} of the plan: {choice}"


# Looks from inside a deployed function: what its own identity, network and clock allow.
#
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
# Each also makes a session in the other cloud, where it has one (`lockstep.operate.doctor.inside`).

TIMEOUTS = Timeouts(
    cloud=CloudTimeouts(connect_seconds=3, read_seconds=5),
    database=DatabaseTimeouts(connect_seconds=3, io_seconds=5, lock_seconds=2, idle_seconds=30),
)
"""Shorter than a rotation's: a look must end before its function does."""
MOST_CREDENTIALS = 100
"""More do not fit into the time of a function."""
MOST_FINDINGS = 2_000
LONGEST_TEXT = 500
"""Characters. With `MOST_FINDINGS` a reply stays below the 6 MB that both platforms take."""

LOCK, STORES, LOG, TABLE = "inside.lock-record", "inside.stores", "inside.audit-log", "inside.lock-table"

WATCH = "aws/watch"
"""It reads the index, and no document of a credential."""

Inspection = Callable[[Clouds, CompiledPlan], Iterator[tuple[str, Answer]]]
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
        asks.append(partial(list, _table(clouds, index)))
    if function in ASK_DATABASES:
        asks.append(partial(_of_databases, databases))
    found = [answer for answers in clouds.side_by_side(asks) for answer in answers]
    findings = [_finding(check, function, answer) for check, answer in found[:MOST_FINDINGS]]
    if len(found) > MOST_FINDINGS:
        more = not_asked("the rest", f"{len(found) - MOST_FINDINGS} more findings do not fit into a reply")
        findings.append(_finding(found[MOST_FINDINGS][0], function, more))
    left_out = len(index.credentials) - MOST_CREDENTIALS
    if found and left_out > 0 and function != WATCH:
        said = f"a function looks at the first {MOST_CREDENTIALS} credentials of its plan"
        findings.append(_finding(found[0][0], function, not_asked(f"{left_out} credentials", said)))
    return Reply(
        findings=tuple(findings),
        refused=tuple(sorted(databases.refused)) if function in ASK_DATABASES else (),
        plans={credential.id: credential.plan_digest for credential in index.credentials},
        at=clouds.clock.now(),
    )


def _listed(ask: Inspection, clouds: Clouds, plan: CompiledPlan) -> list[tuple[str, Answer]]:
    return list(ask(clouds, plan))


def _of_databases(databases: Databases) -> list[tuple[str, Answer]]:
    return [(check, answer) for check in EVERY_CHECK for answer in databases.answers(check)]


def _finding(check: str, function: str, answer: Answer) -> Finding:
    return Finding(
        check=check,
        where=function,
        subject=answer.subject[:LONGEST_TEXT],
        outcome=answer.outcome,
        says=answer.says[:LONGEST_TEXT],
        command=answer.command and answer.command[:LONGEST_TEXT],
    )


def _of_each(
    check: str, ask: Callable[[Credential], Iterable[Answer]], plan: CompiledPlan
) -> Iterator[tuple[str, Answer]]:
    for credential in plan.credentials:
        try:
            for answer in ask(credential):
                yield check, answer
        except LockstepError as error:
            yield check, _denied(credential.id, error)


def _denied(subject: str, error: LockstepError) -> Answer:
    if is_out_of_time(error):
        return not_asked(subject, "there was no time left for it")
    shown = described(error)
    if not isinstance(shown, StoreAccessDeniedError | LockTableAccessDeniedError | AuditLogAccessDeniedError):
        return failed(subject, sentence(error), shown.advice)
    rights = "compare the function's role with docs/iam.md and docs/iam-oci.md, and deploy again"
    return failed(subject, sentence(error), rights)


def _records(clouds: Clouds, plan: CompiledPlan) -> Iterator[tuple[str, Answer]]:
    def ask(credential: Credential) -> Iterator[Answer]:
        record = clouds.lock(credential).read()
        yield passed(credential.id, f"read; generation {record.current_generation or 0} is current")

    return _of_each(LOCK, ask, plan)


def _stores(clouds: Clouds, plan: CompiledPlan) -> Iterator[tuple[str, Answer]]:
    def ask(credential: Credential) -> Iterator[Answer]:
        for store in clouds.each_store(credential):
            subject = f"{credential.id} in {store.name}"
            try:
                value = store.read_current()
            except LockstepError as error:
                yield _denied(subject, error)
            else:
                what = f"generation {value.generation}" if value.login else "a placeholder"
                yield passed(subject, f"both secrets are read; it serves {what}")

    return _of_each(STORES, ask, plan)


def _log(clouds: Clouds, plan: CompiledPlan, *, home: str) -> Iterator[tuple[str, Answer]]:
    def ask(credential: Credential) -> Iterator[Answer]:
        log = clouds.log("oci" if home == "oci" else "aws", credential)
        is_empty = log.look(1) is None
        yield passed(
            credential.id, f"the log in {home} is read; it has {'no entry yet' if is_empty else 'entries'}"
        )

    yield from _of_each(LOG, ask, plan)
    try:
        signer = clouds.signer("oci" if home == "oci" else "aws")
        mac = signer.sign(_PROBE)
        agrees = signer.verify(_PROBE, mac)
        is_one_key = signer.orders.verify(_PROBE, mac) and home == "aws"
    except LockstepError as error:
        yield LOG, _denied(f"key in {home}", error)
        return
    if agrees and not is_one_key:
        yield LOG, passed(f"key in {home}", "it signs, and verifies what it has signed")
        return
    wrong = "it is also the key of orders" if agrees else "it does not verify what it has signed"
    yield LOG, failed(f"key in {home}", wrong, "correct `mac_key` in the plan")


def _table(clouds: Clouds, index: Index) -> Iterator[tuple[str, Answer]]:
    name = index.plan.lock.table
    try:
        table = clouds.lock_table()
    except LockstepError as error:
        yield TABLE, _denied(name, error)
        return
    missing = [c.id for c in index.credentials if c.id not in table.records]
    if table.unreadable:
        bad = ", ".join(sorted(table.unreadable))
        yield TABLE, failed(name, f"the records of {bad} cannot be read", "lockstep status, for each of them")
    elif missing:
        yield TABLE, passed(name, f"it is read; no record yet of {', '.join(missing)}")
    else:
        yield TABLE, passed(name, "it is read; it has a record of every credential")


_ASKED_BY: Mapping[str, tuple[Inspection, ...]] = {
    "aws/generate": (in_oci, _records, _stores),
    "aws/apply_db": (in_oci, _records),
    "aws/update_secrets": (in_oci, _stores),
    "aws/audit": (_records, partial(_log, home="aws")),
    WATCH: (),
    "oci/rotate": (in_aws, _records, _stores, partial(_log, home="oci")),
}
