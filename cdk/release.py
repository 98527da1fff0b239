"""Which version of the state machine the fleet starts: the alias `live`, and for one credential the alias `canary`.

Each deployment that changes the machine publishes a version of it, whose definition names versions of the functions. A
run goes on with the version that it began with; only what starts later is moved (protocol R14).

With a canary, CloudFormation moves the aliases one after the other:

1. `canary`, by which one credential's runs start; and the rules of its interval, with the new plan.
2. `gate`, by which nothing starts. It is moved in two steps, and between them CloudFormation looks at the alarm on the
   canary every minute. In ALARM, the deployment fails, and everything goes back.
3. `live`, by which all other runs start; then the rules of the other shards.

See https://docs.aws.amazon.com/step-functions/latest/dg/concepts-state-machine-alias.html and ADR 41.
"""

from collections.abc import Sequence

from aws_cdk import RemovalPolicy
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from cdk.canary import Canary
from cdk.deployment import Deployment
from cdk.watch import canary_alarm
from lockstep.protocol.names import CANARY, LIVE

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
            self.gate = self._gate(canary, deployment.settings.stack)
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

    def _gate(self, canary: Canary, stack: str) -> stepfunctions.CfnStateMachineAlias:
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
                alarms=[canary_alarm(self, stack, canary).alarm_name],
            ),
        )
