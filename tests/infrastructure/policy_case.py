"""What the roles of the synthesised stack may do, by IAM's rules: of this stack, and of another one in the account."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cdk.settings import ROOT, Settings
from lockstep.operate.secrets import ROTATED, wanted
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from sandbox.emulators.aws.policies import Call, Context, Statement, decide
from tests.infrastructure.cdk_case import BOTH_CLOUDS, VPC, title_of
from tests.infrastructure.template import Template, synthesise

OTHER_PLAN = Path("tests/infrastructure/plan/other.yaml")
THIS, OTHER = "lockstep", "lockstep-two"
"""The other name begins like this one, since rules are known by the beginning of their name."""
LOCK: dict[str, tuple[str, ...]] = {
    "generate": ("GetItem", "UpdateItem"),
    "apply_db": ("GetItem", "UpdateItem"),
    "update_secrets": ("UpdateItem",),
    "audit": ("GetItem",),
    "OCI runner": ("GetItem", "UpdateItem", "Scan"),
    "state machine": ("UpdateItem",),
    "fleet": (),
    "schedules": (),
    "watch": ("Scan",),
    "digest": (),
}
"""The calls by which each role may use the lock table."""
ROLES = sorted(LOCK)


@dataclass(frozen=True)
class World:
    """One stack.

    Attributes:
        policies: The statements of each role, by its title.
    """

    template: Template
    plan: Plan
    policies: dict[str, list[Statement]] = field(default_factory=dict)

    def arn_of(self, resource_type: str, **having: str) -> str:
        """The ARN of the only resource of a type with these properties."""
        (found,) = (
            name
            for name, r in self.template.of_type(resource_type).items()
            if all(r["Properties"].get(key) == value for key, value in having.items())
        )
        return self.template.arn(found)

    def key(self, alias: str) -> str:
        """The ARN of a key."""
        (target,) = (
            a["Properties"]["TargetKeyId"]
            for a in self.template.of_type("AWS::KMS::Alias").values()
            if a["Properties"]["AliasName"] == alias
        )
        return str(self.template.resolved(target))


LISTED = "arn:aws:secretsmanager:eu-west-1:444455556666:secret:dba/orders-AbCdEf"
MANAGED = "rds!cluster-1f2e3d"


@cache
def world(stack: str, *, listed: bool = False, plan_file: Path = BOTH_CLOUDS) -> World:
    """A stack, synthesised once.

    Args:
        stack: THIS or OTHER.
        listed: Whether the admins' secrets are given by ARN and by RDS's name.
        plan_file: The plan of THIS.
    """
    file = plan_file if stack == THIS else OTHER_PLAN
    plan = load_plan(ROOT / file)
    if listed:
        sections = [
            section.model_copy(update={"admin_secret": secret, "oci_admin_secret": f"dba.{section.name}"})
            for section, secret in zip(plan.database_sections, (LISTED, MANAGED), strict=True)
        ]
        plan = plan.model_copy(update={"database_sections": tuple(sections)})
    settings = Settings.model_validate({"plan": file, "stack": stack, "vpc": VPC})
    with tempfile.TemporaryDirectory(prefix="lockstep-policies-") as folder:
        template = synthesise(plan, settings, Path(folder))
    found: dict[str, list[Statement]] = {}
    for name, statements in template.role_policies():
        found.setdefault(title_of(name), []).extend(statements)
    return World(template, plan, found)


def allowed(role: str, call: Call) -> bool:
    """Whether this stack's role may make the call."""
    return decide(call, world(THIS).policies[role]).allowed


def tags(stack: str, kind: str) -> Context:
    """The tags of a secret, as keys of a condition."""
    return {f"aws:ResourceTag/{STACK_TAG}": (stack,), f"aws:ResourceTag/{SECRET_TAG}": (kind,)}


def secrets(stack: str) -> Iterator[tuple[str, str, Context]]:
    """ARN, kind and tags of every secret of a stack: those of credentials, and those that people made for it."""
    found = world(stack)
    admins = {s.admin_secret for s in found.plan.database_sections if s.admin_secret}
    by_hand = dict.fromkeys(sorted(admins), SecretKind.ADMIN)
    by_hand[found.plan.runners.aws.oci_key_secret or ""] = SecretKind.RUNNER_KEY
    rotated = {one.name: one.kind for one in wanted(found.plan) if one.kind in ROTATED}
    for name, kind in {**rotated, **by_hand}.items():
        yield secret_arn(name), kind, tags(stack, kind)


def secret_arn(name: str, *, account: str = "111122223333", region: str = "eu-central-1") -> str:
    """The ARN of a secret."""
    return f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-AbCdEf"
