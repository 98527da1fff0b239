"""The state machine, and for each credential a schedule that starts it by an alias."""

from typing import cast

import jsii
from aws_cdk import CfnElement, Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as stepfunctions
from aws_cdk.interfaces.aws_events import IRuleRef
from constructs import Construct

from cdk import permissions
from cdk.asl import seconds
from cdk.functions import Functions
from cdk.log_groups import log_group
from cdk.nag import acknowledge
from cdk.permissions import Grants
from cdk.release import Release
from cdk.settings import Deployment
from lockstep.stack_names import rule_name, state_machine_name
from lockstep.timing import TRIGGER_LATENESS
from lockstep.wall_clock import cron

FUNCTION_PLACEHOLDERS = {
    "GenerateFunction": "generate",
    "ApplyDbFunction": "apply_db",
    "UpdateSecretsFunction": "update_secrets",
    "AuditFunction": "audit",
}
_STARTS = 5
"""Attempts to start an execution before the trigger goes to the dead-letter queue."""


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
        self.log = log_group(
            self,
            "Log",
            name=f"/aws/vendedlogs/states/{deployment.settings.stack}",
            settings=deployment.settings,
            key=key,
        )
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("states.amazonaws.com"),
            description="Lockstep: role of the state machine",
            inline_policies={"lockstep": iam.PolicyDocument(statements=grants.state_machine(names))},
        )
        self.machine = stepfunctions.StateMachine(
            self,
            "Machine",
            state_machine_name=state_machine_name(deployment.settings.stack),
            definition_body=stepfunctions.DefinitionBody.from_string(
                deployment.definition.replace("arn:aws:states:", f"arn:{Stack.of(self).partition}:states:")
            ),
            definition_substitutions={**versions, "LockTable": deployment.plan.lock.table},
            role=role.without_policy_updates(),
            logs=stepfunctions.LogOptions(
                destination=self.log, level=stepfunctions.LogLevel.ALL, include_execution_data=False
            ),
            tracing_enabled=True,
        )
        self.release = Release(self, "Release", deployment=deployment, machine=self.machine)
        for _, step in steps:
            logical_id = Stack.of(self).get_logical_id(
                cast("CfnElement", functions.by_step[step].node.default_child)
            )
            acknowledge(
                role,
                f"AwsSolutions-IAM5[Resource::<{logical_id}.Arn>:*]",
                "A run under way calls the versions that it began with.",
            )
        acknowledge(
            role,
            "AwsSolutions-IAM5[Resource::*]",
            "The calls of log delivery and X-Ray have no resource that a policy can name.",
        )


class Schedules(Construct):
    """One rule for each credential: the AWS runner is triggered every interval, by wall clock (protocol R2).

    Attributes:
        dead_letters: The queue of triggers that started no execution.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, deployment: Deployment, machine: StateMachine
    ) -> None:
        super().__init__(scope, construct_id)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        dead_letter_queue = "This is the dead-letter queue."
        acknowledge(self.dead_letters, "AwsSolutions-SQS3", dead_letter_queue)
        acknowledge(self.dead_letters, "Serverless-SQSRedrivePolicy", dead_letter_queue)
        self.dead_letters.add_to_resource_policy(
            permissions.dead_letters(self.dead_letters.queue_arn, deployment.settings.stack)
        )
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("events.amazonaws.com"),
            description="Lockstep: role of the schedules",
            inline_policies={
                "lockstep": iam.PolicyDocument(
                    statements=[permissions.start(machine.machine.state_machine_arn, machine.release.aliases)]
                )
            },
        )
        release, canary = machine.release, deployment.canary
        for credential in deployment.plan.credentials:
            minute, hour = cron(credential.schedule.interval)
            rule = events.Rule(
                self,
                f"Rule-{credential.id}",
                rule_name=rule_name(deployment.settings.stack, credential.id),
                description=f"Lockstep: rotate {credential.id}",
                schedule=events.Schedule.cron(minute=minute, hour=hour),
                # Nothing may rotate before the login that applications use is handed over (protocol I11).
                enabled=deployment.settings.schedules,
            )
            if release.gate and release.canary_arn and canary and canary.credential == credential:
                rule.add_target(_Start(release.canary_arn, role, self.dead_letters, credential.id))
                # It may have been another credential's turn to go first.
                release.gate.node.add_dependency(rule)
            else:
                rule.add_target(_Start(release.live_arn, role, self.dead_letters, credential.id))


@jsii.implements(events.IRuleTarget)
class _Start:
    """Start a rotation of a credential.

    Not the target of CDK: it adds a statement to the queue's policy for each rule.
    """

    def __init__(
        self,
        alias_arn: str,
        role: iam.Role,
        dead_letters: sqs.Queue,
        credential_id: str,
    ) -> None:
        self._alias_arn = alias_arn
        self._role = role
        self._dead_letters = dead_letters
        self._credential_id = credential_id

    def bind(self, rule: IRuleRef, id: str | None = None) -> events.RuleTargetConfig:  # noqa: A002 - CDK's name
        """The target's properties."""
        del rule, id
        return events.RuleTargetConfig(
            arn=self._alias_arn,
            role=self._role,
            input=events.RuleTargetInput.from_object(
                {"credential_id": self._credential_id, "trigger": "schedule"}
            ),
            dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=self._dead_letters.queue_arn),
            retry_policy=events.CfnRule.RetryPolicyProperty(
                # A later start could hold the lock when the standby is called (protocol R9).
                maximum_event_age_in_seconds=seconds(TRIGGER_LATENESS),
                maximum_retry_attempts=_STARTS,
            ),
        )
