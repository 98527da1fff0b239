"""The sessions of a function in the other cloud: one is made and used, which nothing outside of the function can try.

Each finding is a fact that documentation leaves open, and names what to choose in the plan where it does not hold
(docs/identity.md).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from lockstep.clouds import Clouds
from lockstep.compiled import ClientKey, CompiledPlan, FederationToAws, FederationToOci
from lockstep.doctor.findings import Answer, failed, not_asked, passed
from lockstep.doctor.probes.problems import is_out_of_time, sentence
from lockstep.environment import (
    DomainClientRefusedError,
    DomainTokenRefusedError,
    IssuerTokenRefusedError,
    IssuerUnreadableError,
    WebIdentityDisabledError,
    told,
)
from lockstep.errors import LockstepError, RetryableError
from lockstep.federation.failure import SessionFailure

SESSION = "inside.session"
PROOF, KEY_SET, VAULT, STORAGE = "application's proof", "AWS's key set", "Vault", "Object Storage"
POLICIES, TOKEN, DOCUMENTS, ROLE = "principal in policies", "token", "issuer's documents", "role"
TO_OCI = "session in OCI"
_HIDDEN = "BucketNotFound"
"""What Object Storage also says where no policy lets one see a bucket."""
_NOT_TRUSTED = "AccessDenied"
_NOT_AUTHENTICATED = {"NotAuthenticated", "401"}
_BY_CLIENT_SECRET = "client: {secret: NAME} instead of kms_key and certificate"  # noqa: S105 - no secret
_BY_KEY = "oci_key_secret instead of federation"
_AS_USER = "token: upst"
_WITH_ACCESS_KEY = "aws_key_secret instead of federation"

Found = Iterator[tuple[str, Answer]]


def in_oci(clouds: Clouds, plan: CompiledPlan) -> Found:
    """A function of AWS that reads secrets in OCI."""
    return _in_oci(clouds, plan, VAULT, _read_secret)


def in_object_storage(clouds: Clouds, plan: CompiledPlan) -> Found:
    """The function of AWS that reads the log in OCI, and nothing else there."""
    return _in_oci(clouds, plan, STORAGE, _read_log)


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
        case IssuerTokenRefusedError() if failure.where.get("code") == _NOT_TRUSTED:
            return ROLE
        case IssuerTokenRefusedError() | IssuerUnreadableError():
            return DOCUMENTS
    return TOKEN


def _in_oci(
    clouds: Clouds, plan: CompiledPlan, service: str, read: Callable[[Clouds, CompiledPlan], object]
) -> Found:
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
    yield from _used(service, _failure(partial(read, clouds), plan), federation)


def _proven(federation: FederationToOci) -> str:
    what = (
        "an assertion by the key in KMS" if isinstance(federation.client, ClientKey) else "the client secret"
    )
    return f"the domain takes {what} beside a token exchange"


def _refused(failure: LockstepError, federation: FederationToOci) -> Iterator[Answer]:
    """Why there is no session in OCI. The domain looks at the application first."""
    match failure:
        case DomainClientRefusedError():
            with_key = isinstance(federation.client, ClientKey)
            yield _failed(PROOF, failure, _instead("runners.aws", _BY_CLIENT_SECRET if with_key else _BY_KEY))
            yield not_asked(KEY_SET, "the domain looks at it only for an application that it knows")
        case DomainTokenRefusedError():
            yield passed(PROOF, _proven(federation))
            yield _failed(KEY_SET, failure, _instead("runners.aws", _BY_KEY))
        case WebIdentityDisabledError():
            yield _failed(TOKEN, failure, "")
        case _:
            yield _failed(TO_OCI, failure, "")


def _used(service: str, failure: LockstepError | None, federation: FederationToOci) -> Found:
    """What a service says to the session, and then what its policies say to the principal."""
    principal = "the function's role" if federation.token == "rpst" else "the service user"  # noqa: S105 - a kind
    code = str(failure.where.get("code")) if failure else ""
    if failure is None:
        yield SESSION, passed(service, "it takes the session")
        yield SESSION, passed(POLICIES, f"they let {principal} read")
    elif code in _NOT_AUTHENTICATED:
        other = _AS_USER if federation.token == "rpst" else _BY_KEY  # noqa: S105 - likewise
        yield SESSION, _failed(service, failure, _instead("runners.aws", other))
        yield SESSION, not_asked(POLICIES, f"{service} does not take the session")
    elif is_out_of_time(failure) or (isinstance(failure, RetryableError) and code != _HIDDEN):
        yield SESSION, not_asked(service, sentence(failure))
    else:
        name = "whether request.principal.name in the policies is the ARN of the function's role (docs/iam-oci.md)"
        yield SESSION, passed(service, "it takes the session")
        yield SESSION, _failed(POLICIES, failure, f"see {name}; {_instead('runners.aws', _AS_USER)}")


def _read_secret(clouds: Clouds, plan: CompiledPlan) -> None:
    for credential in plan.credentials[:1]:
        for store in clouds.each_store(credential):
            if plan.vault and store.name == plan.vault.name:
                store.read_login()


def _read_log(clouds: Clouds, plan: CompiledPlan) -> None:
    for credential in plan.credentials[:1] if plan.oci_stream else ():
        next(iter(clouds.log("oci", credential).numbers()), None)


def _failure(act: Callable[..., object], *arguments: object) -> LockstepError | None:
    """What stops it, as the error that names the side."""
    try:
        with _told():
            act(*arguments)
    except LockstepError as error:
        return error
    return None


@contextmanager
def _told() -> Iterator[None]:
    """An error of ours instead of a failure to make a session, which no port has turned into its own."""
    try:
        yield
    except SessionFailure as failure:
        raise (failure.problem or LockstepError(code=failure.code)) from None


def _failed(subject: str, error: LockstepError, otherwise: str) -> Answer:
    if is_out_of_time(error):
        return not_asked(subject, "there was no time left for it")
    shown = told(error)
    advice = " ".join(text for text in (shown.advice or error.advice, otherwise) if text)
    return failed(subject, sentence(shown), advice or "look up the error in docs/runbook.md#errors-by-name")


def _instead(runner: str, choice: str) -> str:
    return f"Where the account does not allow it, choose in {runner} of the plan: {choice}"
