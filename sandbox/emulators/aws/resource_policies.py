"""The policies of resources, beside those of a role: a bucket's, a secret's, a key's.

In one account a call is allowed by the role's policies or by the resource's. The sandbox ignores what a bucket's or a
secret's policy allows, so it is stricter; what they deny is denied. A key is different: without its own policy's
consent no policy of a role counts (https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html).
"""

import json
from typing import Any

from moto.kms.models import kms_backends
from moto.s3.models import s3_backends
from moto.secretsmanager.models import secretsmanager_backends

from sandbox.emulators.aws.policies import (
    Call,
    Statement,
    UnknownConditionError,
    Verdict,
    as_list,
    decide,
    matches,
)

_EVERYONE = ("*", {"AWS": "*"})


def judge(call: Call, *, region: str, account_id: str) -> Verdict | None:
    """What the resource's policy adds to a call that the role's policies allow; None where it adds nothing."""
    match call.action.partition(":")[0]:
        case "s3":
            return _denied(call, _of_bucket(call, account_id), account_id)
        case "secretsmanager":
            return _denied(call, _of_secret(call, region, account_id), account_id)
        case "kms" if call.resource != "*":
            return _consent(call, _of_key(call, region, account_id), account_id)
    return None


def _denied(call: Call, statements: list[Statement], account_id: str) -> Verdict | None:
    denials = [s for s in statements if s["Effect"] == "Deny" and _concerns(s, account_id)]
    refused = decide(call, denials)
    return refused if refused.statement else None


def _consent(call: Call, statements: list[Statement], account_id: str) -> Verdict | None:
    if denied := _denied(call, statements, account_id):
        return denied
    root = {"AWS": f"arn:aws:iam::{account_id}:root"}
    if any(s["Effect"] == "Allow" and s["Principal"] == root and matches(s, call) for s in statements):
        return None
    return Verdict(allowed=False, statement=None)


def _concerns(statement: Statement, account_id: str) -> bool:
    """Whether a denial concerns every role of the account.

    Raises:
        UnknownConditionError: It concerns some of them only.
    """
    principal = statement.get("Principal")
    if principal in _EVERYONE or principal == {"AWS": f"arn:aws:iam::{account_id}:root"}:
        return True
    if isinstance(principal, dict) and principal.keys() == {"Service"}:
        return False
    raise UnknownConditionError(f"Principal {principal}")


def _of_bucket(call: Call, account_id: str) -> list[Statement]:
    name = call.resource.split(":")[-1].split("/")[0]
    return _statements(s3_backends[account_id]["aws"].get_bucket(name).policy)


def _of_secret(call: Call, region: str, account_id: str) -> list[Statement]:
    secret: Any = secretsmanager_backends[account_id][region].secrets.get(call.resource)
    return _statements(getattr(secret, "policy", None))


def _of_key(call: Call, region: str, account_id: str) -> list[Statement]:
    backend = kms_backends[account_id][region]
    return _statements(backend.keys[backend.any_id_to_key_id(call.resource)].policy)


def _statements(policy: str | bytes | None) -> list[Statement]:
    return as_list(json.loads(policy)["Statement"]) if policy else []
