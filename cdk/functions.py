"""The steps, the watch, the digest and announce: one image (or zip) with as many commands, and role and log of each.

Where they run: in the VPC of the databases, behind security groups that exist or one that is made. What calls those
that are no step of a rotation: the clock, and the end of an execution.

Each deployment that changes a step publishes a version of it, and no version is deleted: a run under way goes on with
the versions that it began with (protocol R14). What `lockstep doctor --in-cloud` asks has an alias for that (ADR 82).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self, cast

from aws_cdk import Aws, CfnResource, Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from cdk import identities, permissions
from cdk.bundle import read_bundle
from cdk.deployment import Canary, Deployment
from cdk.foundation import Foundation, log_group
from cdk.image import sources
from cdk.permissions import Grants
from cdk.settings import ROOT, NotDeployableError, Settings
from functions.announce.ended import STATUSES
from lockstep.operate.watch import EVERY
from lockstep.plan.published import place_in_aws
from lockstep.protocol.deadlines import STEP
from lockstep.protocol.names import DOCTOR, function_names
from lockstep.runtime.wiring import DIGEST_VARIABLE, PLAN_VARIABLE


@dataclass(frozen=True, kw_only=True)
class Network:
    """The VPC that exists, and what lets functions out.

    Attributes:
        groups: The security groups of the function that logs in to the databases.
        groups_of_others: Those of the other functions, if they are in the VPC too.
    """

    vpc: ec2.IVpc
    groups: Sequence[ec2.ISecurityGroup]
    groups_of_others: Sequence[ec2.ISecurityGroup] | None

    @classmethod
    def of(cls, scope: Construct, deployment: Deployment) -> Self | None:
        """The network of the settings; None: functions are in no VPC.

        Args:
            scope: The parent of a group that is made.
            deployment: Its plan names the databases' ports.
        """
        settings = deployment.settings.vpc
        if settings is None:
            return None
        vpc = ec2.Vpc.from_vpc_attributes(
            scope,
            "Vpc",
            vpc_id=settings.id,
            availability_zones=list(settings.availability_zones),
            private_subnet_ids=list(settings.subnet_ids),
        )
        groups: list[ec2.ISecurityGroup] = [
            ec2.SecurityGroup.from_security_group_id(scope, f"Group-{group}", group, mutable=False)
            for group in settings.security_group_ids
        ]
        ports = sorted({server.port for server in deployment.plan.databases})
        reached = [(cidr, port) for port in ports for cidr in settings.database_cidrs]
        to_databases, to_services = (
            ("ApplyDbGroup", "Lockstep: the function that logs in to the databases"),
            ("OtherFunctionsGroup", "Lockstep: the functions that do not reach the databases"),
        )
        others = settings.functions == "all"
        return cls(
            vpc=vpc,
            groups=groups or [_group(scope, vpc, *to_databases, reached)],
            groups_of_others=(groups or [_group(scope, vpc, *to_services)]) if others else None,
        )

    def groups_for(self, step: str) -> Sequence[ec2.ISecurityGroup] | None:
        """The security groups of a step's function; None: it is not in the VPC."""
        return self.groups if step == "apply_db" else self.groups_of_others


def _group(
    scope: Construct, vpc: ec2.IVpc, name: str, description: str, reached: Sequence[tuple[str, int]] = ()
) -> ec2.SecurityGroup:
    """A group that lets functions out to some addresses and ports, and to the services of both clouds."""
    group = ec2.SecurityGroup(scope, name, vpc=vpc, description=description, allow_all_outbound=False)
    for cidr, port in reached:
        group.add_egress_rule(ec2.Peer.ipv4(cidr), ec2.Port.tcp(port), "databases")
    group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "Secrets Manager, DynamoDB, OCI")
    return group


def call_by_clock(
    scope: Construct,
    name: str,
    function: lambda_.IFunction,
    *,
    rule_name: str,
    schedule: str,
    given: Mapping[str, object] | None = None,
    retries: int = 0,
) -> events.Rule:
    """A rule that calls a function by the clock, also while the schedules of rotations are off.

    Args:
        scope: Its stack.
        name: Of its construct in the stack.
        function: What is called.
        rule_name: With a period after the stack's name: the rules of credentials have a hyphen there.
        schedule: When it is called.
        given: Its event; None: an empty one.
        retries: How often a call that did not reach it is made again, within five minutes.
    """
    target = targets.LambdaFunction(
        function,
        event=events.RuleTargetInput.from_object(given or {}),
        retry_attempts=retries,
        max_event_age=Duration.minutes(5),
    )
    return events.Rule(
        Construct(scope, name),
        "Rule",
        rule_name=rule_name,
        description="Lockstep: call a function by the clock",
        schedule=events.Schedule.expression(schedule),
        targets=[target],
    )


def call_watch(
    scope: Construct, function: lambda_.IFunction, settings: Settings, canary: Canary | None
) -> events.Rule:
    """Call the watch every five minutes."""
    return call_by_clock(
        scope,
        "Watch",
        function,
        rule_name=f"{settings.stack}.watch",
        schedule=f"rate({EVERY // timedelta(minutes=1)} minutes)",
        given={
            "stack": settings.stack,
            "schedules": settings.schedules,
            **({"canary": canary.credential.id} if canary else {}),
        },
    )


def announce_ends(scope: Construct, function: lambda_.IFunction, state_machine_arn: str, stack: str) -> None:
    """Call a function with each execution that has ended.

    Step Functions tells EventBridge of every execution, also of one that ran out of time or was stopped, and no state
    of a rotation waits for it
    (https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html).
    """
    events.Rule(
        Construct(scope, "Announce"),
        "Rule",
        rule_name=f"{stack}.announce",
        description="Lockstep: tell others how a run has ended",
        event_pattern=events.EventPattern(
            source=["aws.states"],
            detail_type=["Step Functions Execution Status Change"],
            detail={"stateMachineArn": [state_machine_arn], "status": list(STATUSES)},
        ),
        targets=[targets.LambdaFunction(function)],
    )


_ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}
_PLATFORMS = {"arm64": ecr_assets.Platform.LINUX_ARM64, "x86_64": ecr_assets.Platform.LINUX_AMD64}


_NO_STEPS = ("watch", "digest", "announce")
"""The functions that are no step of a rotation."""
_EVIDENCE = ("audit", "digest")
"""Those that write to the audit bucket."""


class Functions(Construct):
    """The functions of a plan.

    Attributes:
        by_step: The functions, by the name of their step.
        roles: Their roles, by the same name.
        versions: What is deployed of each step of a rotation, by the same name.
        logs: The log groups, by the same name.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        grants: Grants,
        foundation: Foundation,
    ) -> None:
        super().__init__(scope, construct_id)
        self._plan = deployment.plan
        self._place = place_in_aws(deployment.plan.compiled, deployment.published.digest)
        self._plans = foundation.plans
        self._bucket = foundation.bucket
        self._settings = deployment.settings
        self._grants = grants
        zipped = self._settings.packaging == "zip"
        self._bundle = read_bundle(ROOT / self._settings.bundle) if zipped else None
        self.roles: dict[str, iam.Role] = {}
        self._network = Network.of(self, deployment)
        self.logs: dict[str, logs.ILogGroup] = {}
        bus = self._plan.compiled.event_bus
        self.by_step = {
            step: self._function(step, granted, foundation.key)
            for step, granted in {
                "generate": grants.generate(),
                "apply_db": grants.apply_db(),
                "update_secrets": grants.update_secrets(),
                "audit": grants.audit(),
                "watch": grants.watch(),
                "digest": grants.digest(),
                **({"announce": grants.announce(bus)} if bus else {}),
            }.items()
        }
        self.versions = {
            step: function.current_version for step, function in self.by_step.items() if step not in _NO_STEPS
        }
        for step, function in self.by_step.items():
            if step not in ("digest", "announce"):
                lambda_.CfnAlias(
                    function,
                    "Doctor",
                    name=DOCTOR,
                    function_name=function.function_name,
                    # What runs: the rule calls the watch without a version.
                    function_version=self.versions[step].version if step in self.versions else "$LATEST",
                )

    def _function(self, step: str, granted: permissions.Statements, key: kms.IKey) -> lambda_.Function:
        named, zipped = function_names(self._settings.stack, step)
        name = zipped if self._settings.packaging == "zip" else named
        title = "".join(part.title() for part in step.split("_"))
        log_name = f"/aws/lambda/{named}"
        log = log_group(self, f"{title}Log", name=log_name, settings=self._settings, key=key)
        self.logs[step] = log
        groups = self._network.groups_for(step) if self._network else None
        arn = f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:function:{name}"
        role = iam.Role(
            self,
            f"{title}Role",
            # Fixed for those that the policy of the bucket names: the bucket outlives the stack.
            role_name=self._settings.role_name(step, self._plan.lock.region) if step in _EVIDENCE else None,
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"Lockstep: role of the function {step}",
            inline_policies={
                "lockstep": iam.PolicyDocument(
                    statements=[
                        *granted,
                        *identities.statements(self._grants, step),
                        *self._grants.read_plan(),
                        permissions.logs(log.log_group_arn),
                        permissions.trace(),
                        permissions.from_code_only(arn),
                        *(permissions.network(arn) if groups else []),
                    ]
                )
            },
        )
        self.roles[step] = role
        function = self._packaged(title, step, name, role, log, groups=groups)
        # By name, adopted or made: a reference that changes and means the same would make a version of what has not
        # changed, which CloudFormation refuses.
        cast("CfnResource", function.node.default_child).add_property_override(
            "LoggingConfig.LogGroup", log_name
        )
        if log.node.default_child:
            function.node.add_dependency(log)
        return function

    def _packaged(
        self,
        title: str,
        step: str,
        name: str,
        role: iam.Role,
        log: logs.ILogGroup,
        *,
        groups: Sequence[ec2.ISecurityGroup] | None,
    ) -> lambda_.Function:
        handler = f"functions.{step}.handler.handler"
        bundle = self._bundle
        code = (
            lambda_.Code.from_asset(str(ROOT / self._settings.bundle / "bundle.zip"))
            if bundle
            else self._image(handler)
        )
        vpc = self._network.vpc if self._network and groups else None
        return lambda_.Function(
            self,
            title,
            function_name=name,
            description=f"Lockstep: the function {step}",
            code=code,
            handler=handler if bundle else lambda_.Handler.FROM_IMAGE,
            runtime=(
                lambda_.Runtime(f"python{bundle.python}", lambda_.RuntimeFamily.PYTHON)
                if bundle
                else lambda_.Runtime.FROM_IMAGE
            ),
            architecture=_ARCHITECTURES[bundle.architecture if bundle else self._settings.architecture],
            environment={
                PLAN_VARIABLE: str(self._place),
                **({DIGEST_VARIABLE: self._grants.digest_key.named} if step == "digest" else {}),
            },
            # That of a failed deployment goes, so that the next one may publish the same code.
            current_version_options=lambda_.VersionOptions(
                removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
            ),
            memory_size=self._settings.memory_mb,
            timeout=Duration.minutes(15) if step == "digest" else Duration.seconds(STEP.total_seconds()),
            # The role is complete: no construct may add statements to it.
            role=role.without_policy_updates(),
            log_group=log,
            logging_format=lambda_.LoggingFormat.JSON,
            tracing=lambda_.Tracing.ACTIVE,
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=vpc.private_subnets) if vpc else None,
            security_groups=groups,
        )

    def _image(self, handler: str) -> lambda_.Code:
        plan, *ca_files = self._shipped_files()
        return lambda_.Code.from_asset_image(
            str(ROOT),
            file="functions/Dockerfile",
            cmd=[handler],
            build_args={"PLAN": plan},
            platform=_PLATFORMS[self._settings.architecture],
            # Only the files of the bundle, so that no other change builds a new image.
            exclude=["*", *(f"!{path}" for path in [*sources("aws"), plan, *ca_files]), "**/__pycache__"],
        )

    def _shipped_files(self) -> list[str]:
        """The plan and the CA files that it names, relative to the repository."""
        files = [ROOT / self._settings.plan]
        files += [section.ca_file for section in self._plan.database_sections if section.ca_file]
        if not all(file.resolve().is_relative_to(ROOT) for file in files):
            raise NotDeployableError(
                "plan and CA files must be in the repository: the image is built from it"
            )
        return [str(file.resolve().relative_to(ROOT)) for file in files]
