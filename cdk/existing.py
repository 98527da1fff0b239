"""Which of a deployment's names exist in an account, and what becomes of each: made, adopted, taken back, or refused.

Names come from the template, so whatever the stack makes is asked about. What carries the tag of this stack is taken
back without asking: the stack made it, and was deleted, or failed, since. What exists without it is adopted only if a
line of `cdk.json` says so.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from cdk import existing_checks as checks
from cdk.account import Account, Found, StackState, UnansweredError
from cdk.account_buckets import audit_bucket, plan_bucket
from cdk.deployment import Deployment
from cdk.estate import Adopt
from cdk.existing_federation import federation
from cdk.existing_keys import CLIENT_KEY, DIGEST_KEY, MAC_KEY, ORDER_KEY
from cdk.existing_topics import topics as adopted_topics
from cdk.in_oci import client_key_name
from cdk.keys import digest_alias
from cdk.template import Template
from lockstep.protocol.model import AdminSecret
from lockstep.protocol.names import STACK_TAG

_AT_ONCE = 8
_ADOPTABLE = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::IAM::OIDCProvider": "Url",
    "AWS::KMS::Alias": "AliasName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
}
_MAC_KEY, _ORDER_KEY, _CLIENT_KEY, _DIGEST_KEY = (
    f'"{name}": true' for name in ("mac_key", "order_key", "client_key", "digest_key")
)
_AUDIT_BUCKET, _PLAN_BUCKET = '"audit_bucket": true', '"plan_bucket": true'
_NOTHING_MANAGED = {None, "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}
"""A stack whose first deployment failed is deleted by the CDK CLI, and made again."""
_WAYS_OUT = {
    "DELETE_FAILED": (
        "delete it again (`make destroy-aws`), and before that detach the policy of the OCI runner from what has it "
        "(`aws iam list-entities-for-policy`)"
    ),
    "UPDATE_ROLLBACK_FAILED": "finish its rollback (`aws cloudformation continue-update-rollback`)",
}


@dataclass(frozen=True, kw_only=True)
class Estate:
    """What becomes of what exists.

    Attributes:
        adopt: The complete setting, for the CDK CLI.
        taken: What is adopted, and why, for people.
        notes: What to know or to do, which stops nothing.
        problems: What stops the deployment, each with what to change.
    """

    adopt: Adopt
    taken: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(kw_only=True)
class _Name:
    """A name of the deployment, and what the account says of it.

    Attributes:
        line: What to write into `cdk.json` to adopt it.
        consent: Whether `cdk.json` adopts it.
        expected: Whether `cdk.json` says that it exists.
    """

    resource_type: str
    name: str
    line: str
    consent: bool
    expected: bool
    ask: Callable[[], Found | None]
    found: Found | None = None
    unanswered: str | None = None


@dataclass
class _Verdict:
    taken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    adopted: dict[str, set[str]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


def look(deployment: Deployment, template: Template, account: Account) -> Estate:
    """Ask the account about every name of a deployment.

    Args:
        deployment: What is to be deployed.
        template: Its template when nothing is adopted.
        account: Where to.

    Raises:
        UnansweredError: The account does not say which resources the stack manages.
    """
    state = account.stack(deployment.settings.stack)
    verdict = _Verdict()
    if problem := _stack_problem(deployment.settings.stack, state):
        verdict.problems.append(problem)
    managed = frozenset[tuple[str, str]]() if state.status in _NOTHING_MANAGED else state.resources
    names = list(_names(deployment, template, account))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(_answer, names))
    for name in names:
        _judge(name, verdict, stack=deployment.settings.stack, managed=managed)
    _keys(deployment, verdict, account)
    adopt = _complete(deployment.settings.adopt, verdict, names, managed)
    verdict.problems += checks.problems(deployment, template, account, adopt=adopt, managed=state.resources)
    topics = adopted_topics(deployment, account)
    verdict.problems += topics.problems
    verdict.notes += topics.notes
    other_cloud = federation(deployment, account)
    verdict.problems += other_cloud.problems
    verdict.notes += [*other_cloud.notes]
    return Estate(
        adopt=adopt,
        taken=tuple(verdict.taken),
        notes=tuple(verdict.notes),
        problems=tuple(verdict.problems),
    )


def _stack_problem(stack: str, state: StackState) -> str | None:
    status = state.status
    if status in _NOTHING_MANAGED or status is None:
        return None
    if status.endswith("_IN_PROGRESS"):
        return f"stack {stack}: it is {status}; wait until that has ended"
    if status in _WAYS_OUT:
        return f"stack {stack}: it is {status}; first {_WAYS_OUT[status]}"
    return None


def _names(deployment: Deployment, template: Template, account: Account) -> Iterator[_Name]:
    adopt = deployment.settings.adopt
    for resource in template.resources.values():
        kind = resource["Type"]
        name = resource.get("Properties", {}).get(_ADOPTABLE.get(kind, ""))
        if not isinstance(name, str):
            continue
        match kind:
            case "AWS::DynamoDB::Table":
                yield _one(kind, name, '"lock_table": true', adopt.lock_table, partial(account.table, name))
            case "AWS::S3::Bucket":
                yield _bucket(deployment, account, name)
            case "AWS::IAM::OIDCProvider":
                audience = resource["Properties"]["ClientIdList"][0]
                ask = partial(account.oidc_provider, name, audience)
                yield _one(kind, name, '"oidc_provider": true', adopt.oidc_provider, ask)
            case "AWS::KMS::Alias":
                yield from _key(deployment, account, name)
            case "AWS::Logs::LogGroup":
                yield _Name(
                    resource_type=kind,
                    name=name,
                    line=f'"log_groups": ["{name}"]',
                    consent=adopt.adopts_log_group(name),
                    expected=adopt.log_groups is not True and adopt.adopts_log_group(name),
                    ask=partial(account.log_group, name),
                )


def _bucket(deployment: Deployment, account: Account, name: str) -> _Name:
    audit, adopt = deployment.plan.audit.aws, deployment.settings.adopt
    line, consent, ask = (
        (_AUDIT_BUCKET, adopt.audit_bucket, partial(audit_bucket, account, audit, deployment.settings))
        if name == audit.bucket
        else (_PLAN_BUCKET, adopt.plan_bucket, partial(plan_bucket, account, audit))
    )
    return _one("AWS::S3::Bucket", name, line, consent, ask)


def _key(deployment: Deployment, account: Account, alias: str) -> Iterator[_Name]:
    kind, adopt = "AWS::KMS::Alias", deployment.settings.adopt
    if alias == f"alias/{deployment.settings.stack}":
        if not adopt.encryption_key:
            ask = partial(account.key, alias, spec="SYMMETRIC_DEFAULT", usage="ENCRYPT_DECRYPT")
            yield _one(kind, alias, '"encryption_key": "…"', False, ask)
        return
    line, consent, named = {
        client_key_name(deployment.plan): (_CLIENT_KEY, adopt.client_key, CLIENT_KEY),
        digest_alias(deployment.settings.stack): (_DIGEST_KEY, adopt.digest_key, DIGEST_KEY),
        deployment.plan.audit.aws.order_key: (_ORDER_KEY, adopt.order_key, ORDER_KEY),
    }.get(alias, (_MAC_KEY, adopt.mac_key, MAC_KEY))
    ask = partial(account.key, alias, spec=named.spec, usage=named.usage)
    yield _one(kind, alias, line, consent, ask)


def _one(
    kind: str,
    name: str,
    line: str,
    consent: bool,  # noqa: FBT001 - one row of a table
    ask: Callable[[], Found | None],
) -> _Name:
    return _Name(resource_type=kind, name=name, line=line, consent=consent, expected=consent, ask=ask)


def _answer(name: _Name) -> None:
    try:
        name.found = name.ask()
    except UnansweredError as error:
        name.unanswered = str(error)


def _judge(name: _Name, verdict: _Verdict, *, stack: str, managed: frozenset[tuple[str, str]]) -> None:
    """Decide what becomes of one name."""
    found = name.found
    if name.unanswered:
        verdict.problems.append(f"{name.name}: whether it exists is not known: {name.unanswered}")
        return
    if found is None:
        if name.expected:
            verdict.problems.append(
                f"{name.name}: adopt says that it exists, and it does not; without {name.line} it is made"
            )
        return
    owner = found.tags.get(STACK_TAG)
    is_managed = _is_managed(name, managed)
    if is_managed and not name.consent:
        return
    if found.unfit:
        verdict.problems += found.unfit
        return
    if not name.consent and owner != stack:
        line = name.line.replace("…", found.key_arn or "…")
        whose = f"of the stack {owner}" if owner else "not of this stack"
        verdict.problems.append(f"{found.what} exists, and is {whose}: to adopt it, add {line} to adopt")
        verdict.problems += found.lacks
        return
    verdict.problems += found.lacks
    verdict.notes += found.notes
    verdict.adopted.setdefault(name.resource_type, set()).add(name.name)
    if found.key_arn:
        verdict.keys[name.name] = found.key_arn
    why = "cdk.json says so" if name.consent else "this stack made it"
    verdict.taken.append(f"{found.what}: {why}")
    if is_managed:
        verdict.notes.append(f"{found.what}: the stack lets go of it, and it stays as it is")


def _is_managed(name: _Name, managed: frozenset[tuple[str, str]]) -> bool:
    if name.resource_type == "AWS::IAM::OIDCProvider":
        # Its physical id is its ARN, which has the URL without the scheme.
        end = f":oidc-provider/{name.name.removeprefix('https://')}"
        return any(kind == name.resource_type and found.endswith(end) for kind, found in managed)
    return (name.resource_type, name.name) in managed


def _keys(deployment: Deployment, verdict: _Verdict, account: Account) -> None:
    """The keys of secrets that people make for Lockstep, as far as they exist."""
    plan = deployment.plan
    admins = (server.admin for c in plan.credentials for server in c.servers)
    by_hand = {admin.aws for admin in admins if isinstance(admin, AdminSecret)}
    by_hand.update(plan.runners.aws.secrets.values())
    for secret in sorted(by_hand):
        if secret.startswith("arn:") and secret.split(":")[3:5] != [account.region, account.id]:
            # Its key is in another region or account: `keys` names it.
            continue
        try:
            key_arn = account.key_of_secret(secret)
        except UnansweredError as error:
            verdict.notes.append(f"secret {secret}: its key is not known: {error}; name it in keys")
            continue
        if key_arn:
            verdict.keys[secret] = key_arn


def _complete(
    adopt: Adopt, verdict: _Verdict, names: list[_Name], managed: frozenset[tuple[str, str]]
) -> Adopt:
    adopted = verdict.adopted
    keys = dict(verdict.keys)
    aliases = adopted.get("AWS::KMS::Alias", set())
    encryption_key = adopt.encryption_key
    signing_keys: set[str] = set()
    for name in names:
        if name.resource_type != "AWS::KMS::Alias" or name.name not in aliases:
            continue
        arn = keys.pop(name.name)
        if name.line in (_MAC_KEY, _ORDER_KEY, _CLIENT_KEY, _DIGEST_KEY):
            signing_keys.add(name.line)
        else:
            encryption_key = arn
    lines = {name.line for name in names if name.name in adopted.get("AWS::S3::Bucket", set())}
    found = {arn for arn in keys.values() if ("AWS::KMS::Key", arn.rpartition("/")[2]) not in managed}
    others = sorted({*adopt.keys, *found} - {encryption_key})
    return Adopt(
        lock_table="AWS::DynamoDB::Table" in adopted,
        audit_bucket=_AUDIT_BUCKET in lines,
        plan_bucket=_PLAN_BUCKET in lines,
        mac_key=_MAC_KEY in signing_keys,
        order_key=_ORDER_KEY in signing_keys,
        digest_key=_DIGEST_KEY in signing_keys,
        client_key=_CLIENT_KEY in signing_keys,
        oidc_provider="AWS::IAM::OIDCProvider" in adopted,
        oci_role=adopt.oci_role,
        encryption_key=encryption_key,
        keys=tuple(others),
        log_groups=_all_or_some("AWS::Logs::LogGroup", adopted, names),
        topics=adopt.topics,
    )


def _all_or_some(kind: str, adopted: Mapping[str, set[str]], names: list[_Name]) -> bool | tuple[str, ...]:
    """True where all are adopted, so that the command line does not grow with the plan."""
    some = adopted.get(kind, set())
    every = {name.name for name in names if name.resource_type == kind}
    if not some:
        return False
    return True if some == every else tuple(sorted(some))
