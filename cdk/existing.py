"""Which of a deployment's names exist in an account, and what becomes of each: made, adopted, taken back, or refused.

Names come from the template, so whatever the stack makes is asked about. What carries the tag of this stack is taken
back without asking: the stack made it, and was deleted, or failed, since. What exists without it is adopted only if
`adopt.existing` in `cdk.json` names it. What it holds, and whom its policy lets in, is its owner's affair: a deployment
or the first run fails where that does not fit. What no failure would tell is a note or a problem here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cdk.account import Account, Found, StackState, UnansweredError
from cdk.deployment import Deployment
from cdk.resource_policies import AuditPolicy, new_plans_only
from cdk.settings import Adopt, oci_runner_name
from lockstep.protocol.model import AdminSecret
from lockstep.protocol.names import STACK_TAG, plan_bucket_name

_NAMED = {
    "AWS::DynamoDB::Table": ("table", "TableName"),
    "AWS::IAM::OIDCProvider": ("OIDC provider", "Url"),
    "AWS::KMS::Alias": ("key", "AliasName"),
    "AWS::Logs::LogGroup": ("log group", "LogGroupName"),
    "AWS::S3::Bucket": ("bucket", "BucketName"),
}
"""What can be adopted by its name: its kind for people, and the property that is its name."""
_NOTHING_MANAGED = {None, "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}
"""A stack whose first deployment failed is deleted by the CDK CLI, and made again."""


@dataclass(kw_only=True)
class Estate:
    """What becomes of what exists.

    Attributes:
        adopt: The complete setting, for the CDK CLI.
        taken: What is adopted, and why, for people.
        notes: What to know or to do, which stops nothing.
        problems: What stops the deployment, each with what to change.
    """

    adopt: Adopt
    taken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def look(deployment: Deployment, resources: Mapping[str, Any], account: Account, state: StackState) -> Estate:
    """Ask the account about every name of a deployment.

    Args:
        deployment: What is to be deployed.
        resources: Those of its template when nothing is adopted, by logical id.
        account: Where to.
        state: The stack, as it is now.
    """
    given = deployment.settings.adopt
    managed = frozenset[tuple[str, str]]() if state.status in _NOTHING_MANAGED else state.resources
    estate = Estate(adopt=given)
    adopted, keys = list[str](), set(given.keys)
    role = _role_in_aws(deployment, account, estate)
    names = list(_names(resources))
    for kind, name in names:
        own_key = name == f"alias/{deployment.settings.stack}"
        if own_key and given.encryption_key:
            continue
        try:
            found = _found(deployment, account, kind, name)
        except UnansweredError as error:
            estate.problems.append(f"{_NAMED[kind][0]} {name}: whether it exists is not known: {error}")
            continue
        if not _is_taken(
            deployment, account, estate, kind, name, found, managed=_is_managed(kind, name, managed)
        ):
            continue
        if own_key:
            estate.adopt = estate.adopt.model_copy(update={"encryption_key": found and found.key_arn})
            continue
        adopted.append(name)
        if kind != "AWS::KMS::Alias" and found and found.key_arn:
            keys.add(found.key_arn)
    unknown = set(given.existing) - {name for _, name in names} - {role}
    estate.problems += [
        f"adopt.existing: {name} is no name of this deployment that can be adopted"
        for name in sorted(unknown)
    ]
    keys |= _keys_of_secrets(deployment, account, estate)
    own = {arn for arn in keys if ("AWS::KMS::Key", arn.rpartition("/")[2]) in managed}
    estate.adopt = estate.adopt.model_copy(
        update={
            "existing": tuple(sorted({*adopted, *({role} & set(given.existing))})),
            "keys": tuple(sorted(keys - own - {estate.adopt.encryption_key})),
        }
    )
    estate.notes += _of_topics(deployment)
    return estate


def _names(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Type and name of each resource that can be adopted."""
    for resource in resources.values():
        kind = resource["Type"]
        name = resource.get("Properties", {}).get(_NAMED[kind][1]) if kind in _NAMED else None
        # CloudFormation makes up a name that is not given.
        if isinstance(name, str):
            yield kind, name


def _found(deployment: Deployment, account: Account, kind: str, name: str) -> Found | None:
    match kind:
        case "AWS::DynamoDB::Table":
            return account.table(name)
        case "AWS::IAM::OIDCProvider":
            return account.oidc_provider(name)
        case "AWS::KMS::Alias":
            return account.key(name)
        case "AWS::Logs::LogGroup":
            return account.log_group(name)
    audit, mode = deployment.plan.audit.aws, deployment.settings.object_lock.upper()
    return account.bucket(name, (mode, audit.retention.days) if name == audit.bucket else None)


def _is_taken(
    deployment: Deployment,
    account: Account,
    estate: Estate,
    kind: str,
    name: str,
    found: Found | None,
    *,
    managed: bool,
) -> bool:
    """Decide what becomes of one name; whether it is adopted or taken back."""
    consent = name in deployment.settings.adopt.existing
    what = f"{_NAMED[kind][0]} {name}"
    if found is None:
        if consent:
            estate.problems.append(
                f"adopt.existing: {what} does not exist; leave it out there, and it is made"
            )
        return False
    if managed and not consent:
        return False
    owner = found.tags.get(STACK_TAG)
    if not consent and owner != deployment.settings.stack:
        line = f'"{name}" to adopt.existing'
        if name == f"alias/{deployment.settings.stack}":
            line = f'"encryption_key": "{found.key_arn}" to adopt'
        whose = f"of the stack {owner}" if owner else "not of this stack"
        estate.problems.append(f"{what} exists, and is {whose}: to adopt it, add {line} in cdk.json")
        return False
    if found.lacks:
        estate.problems.append(f"{what}: {found.lacks}")
    estate.taken.append(f"{what}: {'cdk.json says so' if consent else 'this stack made it'}")
    if managed:
        estate.notes.append(f"{what}: the stack lets go of it, and it stays as it is")
    if kind == "AWS::S3::Bucket" and owner != deployment.settings.stack:
        wanted = json.dumps(_policy_of(deployment, account, name), separators=(",", ":"))
        estate.notes.append(f"{what}: its policy is yours; it must have these statements: {wanted}")
    return True


def _is_managed(kind: str, name: str, managed: frozenset[tuple[str, str]]) -> bool:
    # The physical id of a provider is its ARN, which has the URL without the scheme.
    end = f":oidc-provider/{name.removeprefix('https://')}"
    return (kind, name) in managed or any(k == kind and found.endswith(end) for k, found in managed)


def _policy_of(deployment: Deployment, account: Account, bucket: str) -> list[Mapping[str, Any]]:
    """What the policy of an adopted bucket must deny; its ROLE-THAT-MANAGES-THE-BUCKET can change it again."""
    arn = f"arn:{account.partition}:s3:::{bucket}"
    if bucket == plan_bucket_name(deployment.plan.audit.aws.bucket):
        return [new_plans_only(arn)]
    settings = deployment.settings
    roles = f"arn:{account.partition}:iam::{account.id}:role"
    policy = AuditPolicy(
        bucket_arn=arn,
        settings=settings,
        functions=settings.evidence_roles(roles, deployment.plan.lock.region),
        deployer=f"{roles}/ROLE-THAT-MANAGES-THE-BUCKET",
    )
    return policy.statements()


def _role_in_aws(deployment: Deployment, account: Account, estate: Estate) -> str | None:
    """The name of the OCI runner's role, which must be one of the account."""
    runner = deployment.plan.runners.oci
    if not runner or not runner.federation:
        return None
    arn, home = runner.federation.role_arn, f"arn:{account.partition}:iam::{account.id}:role/"
    name = arn.rpartition("/")[2]
    if not arn.startswith(home):
        estate.problems.append(
            f"runners.oci.federation.role_arn: {arn} is not in the account of the stack, whose roles are {home}…"
        )
    elif name in deployment.settings.adopt.existing:
        policy = oci_runner_name(deployment.settings.stack)
        estate.notes.append(
            f"role {name}: the stack does not change it; once it is deployed, `aws iam attach-role-policy --role-name "
            f"{name} --policy-arn arn:{account.partition}:iam::{account.id}:policy/{policy}`"
        )
    return name


def _keys_of_secrets(deployment: Deployment, account: Account, estate: Estate) -> set[str]:
    """The keys of secrets that people make for Lockstep, as far as they exist."""
    plan, found = deployment.plan, set[str]()
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
            estate.notes.append(
                f"secret {secret}: its key is not known: {error}; name it in adopt.keys of cdk.json"
            )
            continue
        found |= {key_arn} if key_arn else set()
    return found


def _of_topics(deployment: Deployment) -> Iterator[str]:
    """No deployment fails where a topic or its key does not let alarms in."""
    settings = deployment.settings
    topics = [arn for _, arn in settings.adopt.topics if arn]
    if not topics and not settings.adopt.encryption_key:
        return
    yield (
        f"{', '.join(topics) or 'the topics under your key'}: try whether alarms arrive once it is deployed: `aws "
        f"cloudwatch set-alarm-state --alarm-name {settings.stack}-Stale --state-value ALARM --state-reason test` "
        "(docs/alarms.md#topics-of-your-own)"
    )
