"""The state machine of a rotation. The fleet (`cdk/fleet.py`) starts it, by an alias."""

from typing import cast

from aws_cdk import CfnElement, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from cdk.deployment import Deployment
from cdk.functions import Functions
from cdk.log_groups import log_group
from cdk.nag import acknowledge
from cdk.permissions import Grants
from cdk.release import Release
from lockstep.protocol.names import state_machine_name

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
