"""What is deployed: a plan with its settings, what this stack refuses to deploy, and how the plan is published.

`Canary` is the credential that a deployment reaches first, and how long the others wait for it. The proof is a rotation
that AWS has finished: the watch measures how long ago the last one was. The wait is so long that a rotation which still
counts at its end can only have begun under the new version:

    canary moved         the last old run has ended         the oldest proof         others moved
         |------------ RUN -----------|                           |                       |
         |                                                        |------ proven_for -----|
         |                            |---- three looks ----|
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import ceil
from typing import Self

from cdk.account import Client
from cdk.bundle import ca_files, digests, load_shipped_plan, read_bundle
from cdk.settings import ROOT, NotDeployableError, Settings, oci_runner_name
from lockstep.aws.s3 import S3Folder
from lockstep.operate.watch import EVERY
from lockstep.plan.checks import awaited_values, example_values, missing_ca_files, publication_problems
from lockstep.plan.compiled import ClientKey, FederationToOci
from lockstep.plan.limits import broken
from lockstep.plan.model import Plan
from lockstep.plan.published import Published, compile_plan, folder_of, place_in_aws, state_of, write_plan
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.deadlines import RUN, START_LATENESS
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import Credential
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.runtime.system import SystemClock

LONGEST_WAIT = timedelta(minutes=2100)
"""Of CloudFormation between two steps of a gradual deployment
(https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-stepfunctions-statemachinealias-deploymentpreference.html)."""


@dataclass(frozen=True)
class Canary:
    """The credential that goes first."""

    credential: Credential

    @property
    def proven_for(self) -> timedelta:
        """A rotation was not longer ago than this, as long as every run of the canary succeeds."""
        return self.credential.schedule.interval + START_LATENESS + RUN

    @property
    def wait(self) -> timedelta:
        """From the deployment of the canary to that of the others.

        An alarm is up to three looks of the watch behind: the look itself, the period that it falls into, and
        CloudWatch's evaluation.
        """
        return RUN + self.proven_for + 3 * EVERY

    @property
    def wait_minutes(self) -> int:
        """The same, in whole minutes."""
        return ceil(self.wait / timedelta(minutes=1))


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
    if not federation:
        return
    before, _, found = federation.role_arn.partition(":role/")
    if found.rpartition("/")[2] in settings.adopt.existing:
        return
    own = oci_runner_name(settings.stack)
    if found != own:
        raise NotDeployableError(
            f"runners.oci.federation.role_arn: the stack makes the role {own}, and the plan names {found}; name "
            f"{before}:role/{own}, or to use a role that exists, add its name to adopt.existing in cdk.json"
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
    store = plan.store(AwsSecretsManager)
    if store and store.region != plan.lock.region:
        raise NotDeployableError(
            f"lock and store must be in one region; the plan has {plan.lock.region} and {store.region}"
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
            f"runners.aws.federation.kms_key: {client_key} is another key's; name one that only signs for the "
            f"application, such as alias/{stack}-oci-client"
        )
    if plan.audit.aws.retention % timedelta(days=1):
        raise NotDeployableError("audit.aws.retention: must be whole days")
    for credential in plan.credentials:
        if 2 * credential.schedule.interval > LONGEST_ALARM:
            raise NotDeployableError(
                f"credentials.{credential.id}.interval: must be half a week at most, or no alarm sees that it is stale"
            )


def digest_alias(stack: str) -> str:
    """The alias of the key that signs digests. The plan has its public half only."""
    return f"alias/{stack}-digests"


def client_key_name(plan: Plan) -> str | None:
    """The id, alias or ARN of the key that signs for the domain's application; None: nothing signs for it."""
    to_oci = plan.runners.aws.compile()
    if isinstance(to_oci, FederationToOci) and isinstance(to_oci.client, ClientKey):
        return to_oci.client.kms_key
    return None


class NotPublishedError(Exception):
    """The plan is not in its bucket; the text says why, and what to do."""


@dataclass(frozen=True)
class Publication:
    """A plan, and the client with which it is published.

    Attributes:
        s3: Of the bucket's region.
    """

    deployment: Deployment
    s3: Client

    @property
    def address(self) -> str:
        """Where the functions find it."""
        return str(place_in_aws(self.deployment.plan.compiled, self.deployment.published.digest))

    def publish(self) -> str:
        """Write what is missing; what was done, for people.

        Raises:
            NotPublishedError: A call was refused or not answered, or somebody has put something else there.
        """
        published = self.deployment.published
        place = place_in_aws(self.deployment.plan.compiled, published.digest)
        bucket = S3Folder(self.s3, place.bucket, folder_of(published.digest))
        again = f"`lockstep plan publish --cloud aws --plan {self.deployment.settings.plan}`"
        try:
            state = state_of(bucket, published)
            names = state.missing
            different = state.different | write_plan(
                bucket, published, names, clock=SystemClock(), done=lambda _name: None
            )
        except LockstepError as error:
            raise NotPublishedError(f"{self.address}: {error.name}: {error}; repeat {again}") from error
        if different:
            raise NotPublishedError(
                f"{self.address}: {len(different)} documents have other content than the plan's, so functions refuse "
                f"them; find out who wrote them, delete them, and repeat {again}"
            )
        return f"{self.address}: {len(state.same):,} documents were there, {len(names):,} written"
