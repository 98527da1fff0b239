"""Whether the account lets each runner be somebody in the other cloud: its tokens, and the role that it gives."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cdk.account import Account, UnansweredError
from cdk.deployment import Deployment
from cdk.resource_policies import listed
from lockstep.plan.runners import IssuerFederation
from lockstep.protocol.names import oci_runner_name

_ENABLE = "aws iam enable-outbound-web-identity-federation"
_INFO = "aws iam get-outbound-web-identity-federation-info"
_PLACE = "runners.oci.federation.role_arn"
_ACTION = "sts:AssumeRoleWithWebIdentity"


@dataclass
class Said:
    """What is to be said of it.

    Attributes:
        problems: What stops the deployment.
        notes: What stops nothing.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def federation(deployment: Deployment, account: Account) -> Said:
    """Look at what the plan's sessions need of the account and the stack does not make."""
    found, runners = Said(), deployment.plan.runners
    if runners.aws.federation:
        found.notes += _issues_tokens(account)
    if runners.oci and runners.oci.federation:
        _role(found, runners.oci.federation, deployment, account)
    return found


def _issues_tokens(account: Account) -> Iterator[str]:
    """It is a switch of the whole account, and nothing of a stack."""
    try:
        told = account.ask("iam", "get_outbound_web_identity_federation_info")
        if told is None or not told.get("JwtVendingEnabled", True):
            yield (
                f"runners.aws.federation: this account issues no tokens, so no step reaches OCI; `{_ENABLE}` switches "
                f"that on, and `{_INFO}` tells the issuer, which the trust in OCI names"
            )
    except UnansweredError as error:
        yield f"runners.aws.federation: whether this account issues tokens is not known: {error}"


def _role(found: Said, federation: IssuerFederation, deployment: Deployment, account: Account) -> None:
    """The role is of this account; of an adopted one also for whom it trusts and what it may."""
    arn = federation.role_arn
    home = f"arn:{account.partition}:iam::{account.id}:role/"
    if not arn.startswith(home):
        found.problems.append(f"{_PLACE}: {arn} is not in the account of the stack, whose roles are {home}…")
    elif deployment.settings.adopt.oci_role:
        try:
            _look(found, federation, account, oci_runner_name(deployment.settings.stack))
        except UnansweredError as error:
            found.problems.append(f"{_PLACE}: {error}")


def _look(found: Said, federation: IssuerFederation, account: Account, policy: str) -> None:
    arn = federation.role_arn
    name = arn.rpartition("/")[2]
    answer = account.ask("iam", "get_role", RoleName=name)
    if answer is None or answer["Role"]["Arn"] != arn:
        found.problems.append(f"adopt.oci_role: {arn} does not exist")
        return
    issuer = federation.issuer.removeprefix("https://")
    wanted = {
        "Effect": "Allow",
        "Principal": {"Federated": account.provider_arn(federation.issuer)},
        "Action": _ACTION,
        "Condition": {
            "StringEquals": {f"{issuer}:aud": federation.audience, f"{issuer}:sub": federation.subject}
        },
    }
    statements = listed(answer["Role"]["AssumeRolePolicyDocument"]["Statement"])
    if not any(_is(statement, wanted) for statement in statements):
        shown = json.dumps(wanted, separators=(",", ":"))
        found.problems.append(f"adopt.oci_role: {arn} does not trust the tokens of the runner; add {shown}")
    pages = account.pages("iam", "list_attached_role_policies", RoleName=name)
    if policy not in {p["PolicyName"] for page in pages for p in page["AttachedPolicies"]}:
        found.notes.append(
            f"role {name}: the stack does not change it; once it is deployed, `aws iam attach-role-policy --role-name "
            f"{name} --policy-arn arn:{account.partition}:iam::{account.id}:policy/{policy}`"
        )


def _is(statement: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a statement trusts the same tokens, and no others."""
    actions = listed(statement.get("Action", []))
    conditions = {
        key: listed(value) for key, value in statement.get("Condition", {}).get("StringEquals", {}).items()
    }
    return (
        statement["Effect"] == "Allow"
        and _principals(statement) == _principals(wanted)
        and _ACTION in actions
        and all(conditions.get(k) == [v] for k, v in wanted["Condition"]["StringEquals"].items())
    )


def _principals(statement: Mapping[str, Any]) -> Mapping[str, list[Any]]:
    found = statement.get("Principal")
    return {kind: listed(names) for kind, names in found.items()} if isinstance(found, dict) else {}
