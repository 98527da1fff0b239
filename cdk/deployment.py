"""What is deployed: a plan with its settings, and what this stack refuses to deploy."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Self

from cdk.bundle import ca_files, digests, read_bundle
from cdk.canary import LONGEST_WAIT, Canary
from cdk.in_oci import client_key_name
from cdk.keys import digest_alias
from cdk.settings import ROOT, NotDeployableError, Settings
from lockstep.plan.checks import awaited_values, example_values, missing_ca_files, publication_problems
from lockstep.plan.file import load_shipped_plan
from lockstep.plan.limits import broken
from lockstep.plan.model import Plan
from lockstep.plan.published import Published, compile_plan
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.names import DEFAULT_STACK, oci_runner_name

DEFINITION = ROOT / "statemachine.asl.json"
FLEET_DEFINITION = ROOT / "cdk" / "fleet.asl.json"
LONGEST_ALARM = timedelta(days=7)
"""The longest period that a CloudWatch alarm can evaluate (CloudWatch quotas)."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is deployed, and how.

    Attributes:
        plan: What is rotated.
        settings: How it is deployed.
        definition: The text of the state machine of a rotation.
        fleet_definition: That of the state machine of the fleet.
    """

    plan: Plan
    settings: Settings
    definition: str
    fleet_definition: str

    @classmethod
    def of(cls, plan: Plan, settings: Settings) -> Self:
        """A plan with the state machines of this build."""
        texts = (file.read_text(encoding="utf-8") for file in (DEFINITION, FLEET_DEFINITION))
        definition, fleet_definition = texts
        return cls(plan=plan, settings=settings, definition=definition, fleet_definition=fleet_definition)

    @cached_property
    def published(self) -> Published:
        """The plan as the functions read it."""
        return compile_plan(self.plan.compiled, self.plan.shards, (ROOT / self.settings.plan).parent)

    @property
    def canary(self) -> Canary | None:
        """What goes first. Nothing does where no schedule is on: no run would show that it works."""
        named = self.settings.canary and self.plan.credential(self.settings.canary)
        return Canary(named) if named and self.settings.schedules else None


def read_deployment(settings: Settings) -> Deployment:
    """Read the plan and the state machine.

    Raises:
        PlanProblemsError: The plan is not valid.
        NotDeployableError: The plan is valid, but this stack cannot deploy it.
    """
    plan = load_shipped_plan(ROOT / settings.plan)
    check_deployable(plan, stack=settings.stack)
    check_canary(plan, settings.canary)
    check_oci_role(plan, settings)
    check_quotas(plan)
    return Deployment.of(plan, settings)


def check_quotas(plan: Plan) -> None:
    """Refuse a plan that needs more than a quota allows, unless the provider raises it on request.

    Raises:
        NotDeployableError: Names every such quota.
    """
    if problems := [str(use) for use in broken(plan)]:
        raise NotDeployableError("\n".join(problems))


def check_oci_role(plan: Plan, settings: Settings) -> None:
    """Refuse a role of the OCI runner that the stack would not make, unless it is adopted.

    Raises:
        NotDeployableError: It names the role that the stack makes, and the setting.
    """
    federation = plan.runners.oci and plan.runners.oci.federation
    if not federation or settings.adopt.oci_role:
        return
    before, _, found = federation.role_arn.partition(":role/")
    own = oci_runner_name(settings.stack)
    if found != own:
        raise NotDeployableError(
            f"runners.oci.federation.role_arn: the stack makes the role {own}, and the plan names {found}; name "
            f'{before}:role/{own}, or to use a role that exists, add "oci_role": true to adopt in cdk.json'
        )


def check_complete(deployment: Deployment) -> None:
    """Refuse a plan with values of the example, or whose CA files are not on this machine or not in the bundle.

    Raises:
        BundleError: Packaging is zip, and there is no bundle.
        NotDeployableError: Names everything to change.
    """
    plan, settings = deployment.plan, deployment.settings
    found = (
        example_values(plan),
        awaited_values(plan),
        missing_ca_files(plan),
        publication_problems(plan, (ROOT / settings.plan).parent),
    )
    if problems := [problem for some in found for problem in some]:
        raise NotDeployableError("\n".join(problems))
    folder = ROOT / settings.bundle
    if settings.packaging != "zip":
        return
    bundle, shipped = read_bundle(folder), digests(ca_files(ROOT / settings.plan, plan))
    if bundle.ca_files != shipped or (plan.compiled.vault and not bundle.oci):
        raise NotDeployableError(
            f"the bundle in {settings.bundle} has not the CA files, or not the SDK of OCI, that {settings.plan} needs; "
            f"run `make build PLAN={settings.plan}`"
        )


def check_canary(plan: Plan, canary: str | None) -> None:
    """Refuse a canary that the plan does not have, or for which no deployment can wait.

    Raises:
        NotDeployableError: It says what to change.
    """
    if canary is None:
        return
    credential = plan.credential(canary)
    if credential is None:
        raise NotDeployableError(f"cdk.json: canary: the plan has no credential {canary}")
    if Canary(credential).wait > LONGEST_WAIT:
        raise NotDeployableError(
            f"cdk.json: canary: a deployment cannot wait for {canary}, whose interval is too long; name one with an "
            "interval of a day or less"
        )


def check_deployable(plan: Plan, *, stack: str = DEFAULT_STACK) -> None:
    """Refuse a plan that this stack cannot deploy.

    Raises:
        NotDeployableError: Names the first thing to change.
    """
    regions = {plan.lock.region, plan.audit.aws.region} | {
        s.region for s in plan.stores if isinstance(s, AwsSecretsManager)
    }
    if len(regions) > 1:
        raise NotDeployableError(
            f"lock, store and audit must be in one region; the plan has {', '.join(sorted(regions))}"
        )
    audit = plan.audit.aws
    taken = {f"alias/{stack}": "encrypts", digest_alias(stack): "signs digests"}
    for place, key, such in (("mac_key", audit.mac_key, "audit"), ("order_key", audit.order_key, "orders")):
        if key in taken:
            raise NotDeployableError(
                f"audit.aws.{place}: {key} is the alias of the key that {taken[key]}; name another, "
                f"such as alias/{stack}-{such}"
            )
    if (client_key := client_key_name(plan)) in (audit.mac_key, audit.order_key, *taken):
        raise NotDeployableError(
            f"runners.aws.federation.client.kms_key: {client_key} is another key's; name one that only signs for the "
            f"application, such as alias/{stack}-oci-client"
        )
    _check_key_arns(plan)
    if plan.audit.aws.retention % timedelta(days=1):
        raise NotDeployableError("audit.aws.retention: must be whole days")
    for credential in plan.credentials:
        if 2 * credential.schedule.interval > LONGEST_ALARM:
            raise NotDeployableError(
                f"credentials.{credential.id}.interval: must be half a week at most, or no alarm sees that it is stale"
            )


def _check_key_arns(plan: Plan) -> None:
    """A policy that names an alias by its ARN lets nobody use the key behind it.

    https://docs.aws.amazon.com/kms/latest/developerguide/alias-authorization.html
    """
    audit = plan.audit.aws
    named = [("audit.aws.mac_key", audit.mac_key), ("audit.aws.order_key", audit.order_key)]
    named += [("audit.aws.retired_mac_keys", key) for key in audit.retired_mac_keys]
    named += [("runners.aws.federation.client.kms_key", key) for key in (client_key_name(plan),) if key]
    for place, key in named:
        head, is_alias, alias = key.partition(":alias/")
        if is_alias and head.startswith("arn:"):
            raise NotDeployableError(
                f"{place}: {key} is the ARN of an alias, and a policy must name the key; give the ARN of the key"
                + ("" if place.endswith("retired_mac_keys") else f", or alias/{alias}")
            )
