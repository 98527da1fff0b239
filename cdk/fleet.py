"""What starts rotations: one rule for each shard, and the state machine of the fleet, which starts those of a shard.

Their number depends on the intervals of the plan, and on nothing else: an interval has 20 shards at most. What a shard
holds is published beside the plan (`lockstep.plan.published`), and the rule names the plan's digest.

CloudFormation moves them in an order (`cdk/release.py`): where there is a canary, the fleet and the rules of its
interval come before the gate, all other rules after it. So the fleet knows the alias `live` by its name, and does not
wait for it.
"""

from collections.abc import Iterator

import jsii
from aws_cdk import Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as stepfunctions
from aws_cdk.interfaces.aws_events import IRuleRef
from constructs import Construct

from cdk import statements
from cdk.asl import seconds
from cdk.canary import Canary
from cdk.deployment import Deployment
from cdk.foundation import Foundation
from cdk.log_groups import log_group
from cdk.nag import acknowledge
from cdk.orchestration import StateMachine
from cdk.permissions import Grants
from cdk.plan_policy import PLAN_PREFIX, REPORT_PREFIX
from cdk.wide_resources import acknowledge_objects
from lockstep.plan.limits import concurrency, every_ms
from lockstep.protocol.deadlines import TRIGGER_LATENESS
from lockstep.protocol.names import CANARY, LIVE, fleet_machine_name, rule_name, state_machine_name
from lockstep.protocol.schedule import Shard, cron

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
        name, rotation_arn = fleet_machine_name(stack), rotation.machine.state_machine_arn
        self.log = log_group(
            self,
            "Log",
            name=f"/aws/vendedlogs/states/{name}",
            settings=deployment.settings,
            key=foundation.key,
        )
        granted = grants.fleet_machine(foundation.plans.bucket_arn, rotation_arn, rotation.release.aliases)
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            description="Lockstep: role of the state machine of the fleet",
            inline_policies={"lockstep": iam.PolicyDocument(statements=granted)},
        )
        self.machine = stepfunctions.StateMachine(
            self,
            "Machine",
            state_machine_name=name,
            definition_body=stepfunctions.DefinitionBody.from_string(
                deployment.fleet_definition.replace(
                    "arn:aws:states:", f"arn:{Stack.of(self).partition}:states:"
                )
            ),
            definition_substitutions={
                "PlanBucket": foundation.plans.bucket_name,
                "ReportBucket": foundation.plans.bucket_name,
                "LiveAlias": f"{rotation_arn}:{LIVE}",
                "CanaryAlias": rotation.release.canary_arn or f"{rotation_arn}:{CANARY}",
                "Canary": canary.credential.id if canary else _NO_CREDENTIAL,
            },
            role=role.without_policy_updates(),
            logs=stepfunctions.LogOptions(
                destination=self.log, level=stepfunctions.LogLevel.ALL, include_execution_data=False
            ),
            tracing_enabled=True,
        )
        for resource, reason in _wide(stack):
            acknowledge(role, f"AwsSolutions-IAM5[Resource::{resource}]", reason)
        acknowledge_objects(
            role, foundation.plans, f"{PLAN_PREFIX}*/shards/", "Each shard has an object of its own."
        )
        acknowledge_objects(role, foundation.plans, REPORT_PREFIX, "Each report has a name of its own.")


def _wide(stack: str) -> Iterator[tuple[str, str]]:
    """The resources of the role that are patterns, and why."""
    place = ("<AWS::Partition>", "<AWS::Region>", "<AWS::AccountId>")
    fleet = fleet_machine_name(stack)
    for machine in (state_machine_name(stack), fleet):
        yield statements.execution_arn(*place, machine), "Each execution has a name of its own."
    run = f"arn:{place[0]}:states:{place[1]}:{place[2]}:mapRun:{fleet}/*"
    yield run, "Each run of the map has a name of its own."
    yield "*", "The calls of log delivery and X-Ray have no resource that a policy can name."


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
            inline_policies={"lockstep": iam.PolicyDocument(statements=[statements.start_shards(fleet_arn)])},
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
        dead_letter_queue = "This is the dead-letter queue."
        acknowledge(queue, "AwsSolutions-SQS3", dead_letter_queue)
        acknowledge(queue, "Serverless-SQSRedrivePolicy", dead_letter_queue)
        queue.add_to_resource_policy(statements.dead_letters(queue.queue_arn, stack))
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
