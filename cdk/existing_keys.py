"""Whether the keys that a deployment uses and did not make can be used by its roles and by AWS's services."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cdk.account import Account
from cdk.deployment import Deployment
from cdk.existing_topics import CLOUDWATCH, alarm_context
from cdk.resource_policies import Context, Statement, lets

_URL_SUFFIXES = {"aws-cn": "amazonaws.com.cn"}


def encryption_key(deployment: Deployment, account: Account) -> Iterator[str]:
    """What the adopted encryption key lacks."""
    arn, stack = deployment.settings.adopt.encryption_key, deployment.settings.stack
    if arn is None:
        return
    if arn.split(":")[3] != account.region:
        yield f"adopt.encryption_key: {arn} is not in {account.region}"
        return
    found = account.key(arn, spec="SYMMETRIC_DEFAULT", usage="ENCRYPT_DECRYPT")
    if found is None:
        yield f"adopt.encryption_key: {arn} does not exist"
        return
    yield from (f"adopt.encryption_key: {lack}" for lack in (*found.unfit, *found.lacks))
    if arn.split(":")[4] != account.id:
        # Only its own account may read its policy.
        return
    statements = account.key_policy(arn)["Statement"]
    actions = ("kms:Decrypt", "kms:GenerateDataKey")
    yield from _not_delegated("adopt.encryption_key", arn, statements, account, stack, actions)
    for service, (statement, context) in _needed(account, stack).items():
        wanted = ["kms:GenerateDataKey" if a == "kms:GenerateDataKey*" else a for a in statement["Action"]]
        if not all(lets(statements, service, action, arn, context) for action in wanted if "*" not in action):
            yield (
                f"adopt.encryption_key: its policy does not let {service} use it; add to it {_shown(statement)}"
            )


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """What a key must be that the plan names.

    Attributes:
        place: Where the plan names it.
        spec: Its KeySpec.
        usage: Its KeyUsage.
        action: What the roles do with it.
    """

    place: str
    spec: str
    usage: str
    action: str


MAC_KEY = SigningKey(
    place="audit.aws.mac_key", spec="HMAC_256", usage="GENERATE_VERIFY_MAC", action="kms:GenerateMac"
)
ORDER_KEY = replace(MAC_KEY, place="audit.aws.order_key")
CLIENT_KEY = SigningKey(
    place="runners.aws.federation.client.kms_key", spec="RSA_2048", usage="SIGN_VERIFY", action="kms:Sign"
)
DIGEST_KEY = replace(CLIENT_KEY, place="adopt.digest_key")


def signing_key(
    key: SigningKey, named: str | None, account: Account, stack: str, *, adopted: bool
) -> Iterator[str]:
    """What a key lacks that the plan names by id or ARN, or that is adopted by its alias; None: it names none."""
    by_alias = named is not None and named.startswith("alias/")
    if named is None or (by_alias and not adopted):
        return
    found = account.key(named, spec=key.spec, usage=key.usage)
    if found is None or found.key_arn is None:
        yield f"{key.place}: {named} does not exist; give an alias, and the key is made"
        return
    if not by_alias:
        yield from (f"{key.place}: {lack}" for lack in (*found.unfit, *found.lacks))
    if found.key_arn.split(":")[4] == account.id:
        statements = account.key_policy(found.key_arn)["Statement"]
        yield from _not_delegated(key.place, found.key_arn, statements, account, stack, (key.action,))


def other_keys(arns: Sequence[str], account: Account, stack: str) -> Iterator[str]:
    """What the keys of secrets that people made, and of the adopted table lack."""
    for arn in arns:
        _, _, _, region, owner, _ = arn.split(":")
        if (region, owner) != (account.region, account.id):
            # Only its own account may read its policy.
            continue
        found = account.key(arn, spec="SYMMETRIC_DEFAULT", usage="ENCRYPT_DECRYPT")
        if found is None:
            yield f"adopt.keys: {arn} does not exist"
            continue
        yield from (f"adopt.keys: {lack}" for lack in (*found.unfit, *found.lacks))
        statements = account.key_policy(arn)["Statement"]
        yield from _not_delegated("adopt.keys", arn, statements, account, stack, ("kms:Decrypt",))


def _not_delegated(
    what: str,
    arn: str,
    statements: Sequence[Statement],
    account: Account,
    stack: str,
    actions: Sequence[str],
) -> Iterator[str]:
    """A key counts no IAM policy unless its own says so, or names the role itself.

    https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html
    """
    whole = f"arn:{account.partition}:iam::{account.id}"
    for principal in (f"{whole}:root", account.id, f"{whole}:role/{stack}-*"):
        if all(lets(statements, principal, action, arn, {}) for action in actions):
            return
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"{whole}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    yield (
        f"{what}: the policy of {arn} lets no IAM policy of the account grant its use; add to it {_shown(statement)}"
    )


def _needed(account: Account, stack: str) -> Mapping[str, tuple[Mapping[str, Any], Context]]:
    """The statements that log groups and alarms need, by service, as Lockstep's own key has them."""
    suffix = _URL_SUFFIXES.get(account.partition, "amazonaws.com")
    logs = f"logs.{account.region}.{suffix}"
    groups = f"arn:{account.partition}:logs:{account.region}:{account.id}:log-group:/aws/"
    return {
        logs: (
            {
                "Effect": "Allow",
                "Principal": {"Service": logs},
                "Action": [
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                "Resource": "*",
                "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"{groups}*"}},
            },
            {"kms:encryptioncontext:aws:logs:arn": f"{groups}lambda/{stack}-generate"},
        ),
        CLOUDWATCH: (
            {
                "Effect": "Allow",
                "Principal": {"Service": CLOUDWATCH},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:SourceAccount": account.id}},
            },
            alarm_context(account, stack),
        ),
    }


def _shown(statement: Mapping[str, Any]) -> str:
    return json.dumps(statement, separators=(",", ":"))
