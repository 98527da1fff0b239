"""The state machines and what starts them: a rule for each shard, the fleet, and rotations by an alias.

A rule starts the machine of the fleet, which starts the rotations of a shard. The number of rules depends on the
intervals of the plan, and on nothing else: an interval has 20 shards at most. What a shard holds is published beside
the plan (`lockstep.plan.published`), and the rule names the plan's digest.

Each deployment that changes the machine of a rotation publishes a version of it, whose definition names versions of the
functions. A run goes on with the version that it began with; only what starts later is moved (protocol R14). The fleet
starts rotations by the alias `live`, and those of one credential by the alias `canary`. With a canary, CloudFormation
moves the aliases one after the other:

1. `canary`, by which one credential's runs start; and the rules of its interval, with the new plan.
2. `gate`, by which nothing starts. It is moved in two steps, and between them CloudFormation looks at the alarm on the
   canary every minute. In ALARM, the deployment fails, and everything goes back.
3. `live`, by which all other runs start; then the rules of the other shards. So the fleet knows `live` by its name, and
   does not wait for it.

See https://docs.aws.amazon.com/step-functions/latest/dg/concepts-state-machine-alias.html and ADR 41.
"""

from collections.abc import Mapping, Sequence

import jsii
from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as stepfunctions
from aws_cdk.interfaces.aws_events import IRuleRef
from constructs import Construct

from cdk import permissions
from cdk.alarms import canary_alarm
from cdk.asl import seconds
from cdk.deployment import Canary, Deployment
from cdk.fleetmachine import cron
from cdk.foundation import Foundation, log_group
from cdk.functions import Functions
from cdk.permissions import Grants
from cdk.settings import Settings, rule_name
from lockstep.plan.limits import concurrency, every_ms
from lockstep.protocol.deadlines import TRIGGER_LATENESS
from lockstep.protocol.names import CANARY, LIVE, fleet_machine_name, state_machine_name
from lockstep.protocol.schedule import Shard

FUNCTION_PLACEHOLDERS = {
    "GenerateFunction": "generate",
    "ApplyDbFunction": "apply_db",
    "UpdateSecretsFunction": "update_secrets",
    "AuditFunction": "audit",
}


class StateMachine(Construct):
    """The state machine of `statemachine.asl.json`, unchanged.

    Attributes:
        machine: The state machine. Nothing starts it but by `release`.
        release: Its published version.
        log: Its log, without inputs and outputs.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        functions: Functions,
        grants: Grants,
        key: kms.IKey,
    ) -> None:
        super().__init__(scope, construct_id)
        steps = FUNCTION_PLACEHOLDERS.items()
        versions = {placeholder: functions.versions[step].function_arn for placeholder, step in steps}
        names = [functions.by_step[step].function_arn for _, step in steps]
        name = state_machine_name(deployment.settings.stack)
        self.log = _log(self, name, deployment, key)
        self.machine = _machine(
            self,
            name=name,
            title="the state machine",
            definition=deployment.definition,
            substitutions={**versions, "LockTable": deployment.plan.lock.table},
            granted=grants.state_machine(names),
            log=self.log,
        )
        self.release = Release(self, "Release", deployment=deployment, machine=self.machine)


GATE = "gate"
_WHOLE = 100
_HALF = 50
"""Nothing starts by the gate, so any share will do."""


class Release(Construct):
    """The published version of the state machine, and the aliases that lead to it.

    Attributes:
        live: The alias of every credential but the canary.
        live_arn: Its ARN.
        canary_arn: The alias of the canary; None without one.
        gate: What has to be over before anything but the canary is moved; None without a canary.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        machine: stepfunctions.StateMachine,
    ) -> None:
        super().__init__(scope, construct_id)
        version = stepfunctions.CfnStateMachineVersion(
            self,
            "Version",
            state_machine_arn=machine.state_machine_arn,
            state_machine_revision_id=machine.state_machine_revision_id,
        )
        # That of a failed deployment goes, so that the next one may publish the same revision.
        version.apply_removal_policy(RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
        self._version_arn = version.attr_arn
        self.live = self._alias(LIVE)
        self.live_arn = self.live.attr_arn
        self.canary_arn: str | None = None
        self.gate: stepfunctions.CfnStateMachineAlias | None = None
        if canary := deployment.canary:
            self.canary_arn = self._alias(CANARY).attr_arn
            self.gate = self._gate(canary, deployment.settings)
            self.live.node.add_dependency(self.gate)

    @property
    def aliases(self) -> Sequence[str]:
        """The names of the aliases by which the fleet starts rotations."""
        return [LIVE] if self.canary_arn is None else [LIVE, CANARY]

    def _alias(self, name: str) -> stepfunctions.CfnStateMachineAlias:
        return stepfunctions.CfnStateMachineAlias(
            self,
            name.title(),
            name=name,
            routing_configuration=[
                stepfunctions.CfnStateMachineAlias.RoutingConfigurationVersionProperty(
                    state_machine_version_arn=self._version_arn, weight=_WHOLE
                )
            ],
        )

    def _gate(self, canary: Canary, settings: Settings) -> stepfunctions.CfnStateMachineAlias:
        return stepfunctions.CfnStateMachineAlias(
            self,
            GATE.title(),
            name=GATE,
            description="Starts nothing: a deployment waits here for the canary",
            deployment_preference=stepfunctions.CfnStateMachineAlias.DeploymentPreferenceProperty(
                state_machine_version_arn=self._version_arn,
                type="CANARY",
                percentage=_HALF,
                interval=canary.wait_minutes,
                alarms=[canary_alarm(self, settings, canary).alarm_name],
            ),
        )


_NO_CREDENTIAL = "(none)"
"""No id has brackets. An empty text would look like a placeholder that was forgotten."""
_STARTS = 5
"""Attempts to start an execution before the trigger goes to the dead-letter queue."""


class FleetMachine(Construct):
    """The state machine of `cdk/fleet.asl.json`, unchanged.

    Attributes:
        machine: The state machine. An execution goes on with the definition that it began with.
        log: Its log, without inputs and outputs.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        foundation: Foundation,
        rotation: StateMachine,
        grants: Grants,
    ) -> None:
        super().__init__(scope, construct_id)
        stack, canary = deployment.settings.stack, deployment.canary
        rotation_arn = rotation.machine.state_machine_arn
        self.log = _log(self, fleet_machine_name(stack), deployment, foundation.key)
        self.machine = _machine(
            self,
            name=fleet_machine_name(stack),
            title="the state machine of the fleet",
            definition=deployment.fleet_definition,
            substitutions={
                "PlanBucket": foundation.plans.bucket_name,
                "ReportBucket": foundation.plans.bucket_name,
                "LiveAlias": f"{rotation_arn}:{LIVE}",
                "CanaryAlias": rotation.release.canary_arn or f"{rotation_arn}:{CANARY}",
                "Canary": canary.credential.id if canary else _NO_CREDENTIAL,
            },
            granted=grants.fleet_machine(foundation.plans.bucket_arn, rotation_arn, rotation.release.aliases),
            log=self.log,
        )


def _log(scope: Construct, name: str, deployment: Deployment, key: kms.IKey) -> logs.ILogGroup:
    return log_group(
        scope, "Log", name=f"/aws/vendedlogs/states/{name}", settings=deployment.settings, key=key
    )


def _machine(
    scope: Construct,
    *,
    name: str,
    title: str,
    definition: str,
    substitutions: Mapping[str, str],
    granted: permissions.Statements,
    log: logs.ILogGroup,
) -> stepfunctions.StateMachine:
    """A state machine with its role; its log has no inputs and outputs."""
    role = iam.Role(
        scope,
        "Role",
        assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
        description=f"Lockstep: role of {title}",
        inline_policies={"lockstep": iam.PolicyDocument(statements=granted)},
    )
    partition = Stack.of(scope).partition
    return stepfunctions.StateMachine(
        scope,
        "Machine",
        state_machine_name=name,
        definition_body=stepfunctions.DefinitionBody.from_string(
            definition.replace("arn:aws:states:", f"arn:{partition}:states:")
        ),
        definition_substitutions=substitutions,
        role=role.without_policy_updates(),
        logs=stepfunctions.LogOptions(
            destination=log, level=stepfunctions.LogLevel.ALL, include_execution_data=False
        ),
        tracing_enabled=True,
    )


class Schedules(Construct):
    """One rule for each shard: its rotations begin every interval, by wall clock (protocol R2).

    Attributes:
        fleet: What the rules start.
        dead_letters: The queue of triggers that started no execution.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        fleet: FleetMachine,
        rotation: StateMachine,
    ) -> None:
        super().__init__(scope, construct_id)
        self.fleet = fleet
        settings, release = deployment.settings, rotation.release
        self.dead_letters = self._queue(settings.stack)
        fleet_arn = fleet.machine.state_machine_arn
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("events.amazonaws.com"),
            description="Lockstep: role of the schedules",
            inline_policies={
                "lockstep": iam.PolicyDocument(
                    statements=[permissions.allow("Start", ["states:StartExecution"], [fleet_arn])]
                )
            },
        )
        at_once, apart = concurrency(deployment.plan), every_ms(deployment.plan)
        for shard in deployment.plan.shards:
            minute, hour = cron(shard.interval, shard.phase)
            started = events.RuleTargetInput.from_object(
                {
                    "shard": shard.name,
                    "plan": deployment.published.digest,
                    "time": events.EventField.time,
                    "concurrency": at_once[shard.name],
                    "every_ms": apart[shard.name],
                    "trigger": "schedule",
                    "interval": int(shard.interval.total_seconds()),
                }
            )
            rule = events.Rule(
                self,
                f"Rule-{shard.name}",
                rule_name=rule_name(settings.stack, shard.name),
                description=f"Lockstep: rotate the credentials of the shard {shard.name}",
                schedule=events.Schedule.cron(minute=minute, hour=hour),
                # Nothing may rotate before the login that applications use is imported (protocol I11).
                enabled=settings.schedules,
                targets=[_Start(fleet_arn, role, self.dead_letters, started)],
            )
            if release.gate and deployment.canary and _beside(deployment.canary, shard):
                # It may have been another credential's turn to go first.
                release.gate.node.add_dependency(rule)
            else:
                # A shard is of the new plan when what it starts is.
                rule.node.add_dependency(release.live)

    def _queue(self, stack: str) -> sqs.Queue:
        queue = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        queue.add_to_resource_policy(permissions.dead_letters(queue.queue_arn, stack))
        return queue


def _beside(canary: Canary, shard: Shard) -> bool:
    """Whether the credentials of a shard have the canary's interval.

    Where there are more of them than before, they are divided into other shards: a rule that came before the others
    would leave credentials that no rule starts.
    """
    return shard.interval == canary.credential.schedule.interval


@jsii.implements(events.IRuleTarget)
class _Start:
    """Start the rotations of a shard.

    Not the target of CDK: it adds a statement to the queue's policy for each rule.
    """

    def __init__(
        self, fleet_arn: str, role: iam.Role, dead_letters: sqs.Queue, started: events.RuleTargetInput
    ) -> None:
        self._fleet_arn = fleet_arn
        self._role = role
        self._dead_letters = dead_letters
        self._started = started

    def bind(self, rule: IRuleRef, id: str | None = None) -> events.RuleTargetConfig:  # noqa: A002 - CDK's name
        """The target's properties."""
        del rule, id
        return events.RuleTargetConfig(
            arn=self._fleet_arn,
            role=self._role,
            input=self._started,
            dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=self._dead_letters.queue_arn),
            retry_policy=events.CfnRule.RetryPolicyProperty(
                # A later start could hold the lock when the standby is called (protocol R9).
                maximum_event_age_in_seconds=seconds(TRIGGER_LATENESS),
                maximum_retry_attempts=_STARTS,
            ),
        )
