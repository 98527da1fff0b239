"""The entry point of `cdk synth` and `cdk deploy`: reads context and plan and makes the stack."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aws_cdk import App, CfnOutput, Environment, Stack, Tags
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk import identities
from cdk.bundle import BundleError
from cdk.deployment import Deployment, check_complete, read_deployment
from cdk.foundation import Foundation
from cdk.functions import Functions, announce_ends, call_by_clock, call_watch
from cdk.identities import add_oci_runner
from cdk.machines import FleetMachine, Schedules, StateMachine
from cdk.monitoring import Monitoring
from cdk.permissions import Grants
from cdk.settings import PRINCIPALS_OUTPUT, ROOT, NotDeployableError, Settings, check_names
from lockstep.plan.file import PlanProblemsError
from lockstep.protocol.names import KEY_OUTPUT, STACK_TAG

_CLI_CONTEXT = {
    "aws:cdk:enable-path-metadata": True,
    "aws:cdk:enable-asset-metadata": True,
    "aws:cdk:version-reporting": True,
}
"""What the CDK CLI adds: it makes the template larger."""
_NO_LIMIT = {"@aws-cdk/core:stackResourceLimit": 0, "@aws-cdk/core:validateAgainstDefaultRules": False}
"""What does not fit is measured, too."""


class LockstepStack(Stack):
    """Everything that AWS runs for a plan. Synthesis makes no call to AWS."""

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        plan, settings = deployment.plan, deployment.settings
        super().__init__(
            scope,
            settings.stack,
            description="Lockstep: rotates database credentials and keeps them the same in AWS and OCI",
            env=Environment(region=plan.lock.region),
        )
        for key, value in {**settings.tags, STACK_TAG: settings.stack}.items():
            Tags.of(self).add(key, value)
        if settings.permissions_boundary:
            iam.PermissionsBoundary.of(self).apply(self._boundary(settings.permissions_boundary))
        foundation = Foundation(self, "Foundation", deployment)
        grants = Grants(
            plan=plan,
            stack=settings.stack,
            table_arn=foundation.table.table_arn,
            bucket_arn=foundation.bucket.bucket_arn,
            plan_bucket_arn=foundation.plans.bucket_arn,
            key_arns=foundation.key_arns,
            mac_key=foundation.mac_key,
            order_key=foundation.order_key,
            digest_key=foundation.digest_key,
            client_key=foundation.client_key,
        )
        functions = Functions(
            self,
            "Functions",
            deployment=deployment,
            grants=grants,
            foundation=foundation,
        )
        watch = call_watch(self, functions.by_step["watch"], settings, deployment.canary)
        call_by_clock(
            self,
            "Digest",
            functions.by_step["digest"],
            rule_name=f"{settings.stack}.digest",
            # Ten minutes after OCI has made its own.
            schedule="cron(15 * * * ? *)",
            retries=2,
        )
        machine = StateMachine(
            self,
            "StateMachine",
            deployment=deployment,
            functions=functions,
            grants=grants,
            key=foundation.key,
        )
        if machine.release.gate:
            machine.release.gate.node.add_dependency(watch)
        if "announce" in functions.by_step:
            arn = machine.machine.state_machine_arn
            announce_ends(self, functions.by_step["announce"], arn, settings.stack)
        fleet = FleetMachine(
            self,
            "Fleet",
            deployment=deployment,
            foundation=foundation,
            rotation=machine,
            grants=grants,
        )
        schedules = Schedules(self, "Schedules", deployment=deployment, fleet=fleet, rotation=machine)
        monitoring = Monitoring(
            self,
            "Monitoring",
            deployment=deployment,
            foundation=foundation,
            functions=functions,
            machine=machine,
            schedules=schedules,
        )
        add_oci_runner(self, deployment, grants)
        if roles := identities.principals(plan, lambda step: functions.roles[step].role_arn):
            CfnOutput(self, PRINCIPALS_OUTPUT, value=self.to_json_string(roles))
        foundation.make_table_last()
        CfnOutput(self, "StateMachineArn", value=machine.release.live_arn)
        for severity, topic in monitoring.alarms.topics.items():
            CfnOutput(self, f"{severity.title()}TopicArn", value=topic.topic_arn)
        CfnOutput(self, "AlarmTopicArn", value=monitoring.alarms.topics["page"].topic_arn)
        CfnOutput(self, KEY_OUTPUT, value=foundation.key.key_arn)

    def _boundary(self, policy: str) -> iam.IManagedPolicy:
        if policy.startswith("arn:"):
            return iam.ManagedPolicy.from_managed_policy_arn(self, "Boundary", policy)
        return iam.ManagedPolicy.from_managed_policy_name(self, "Boundary", policy)


def synthesise(deployment: Deployment, folder: Path) -> Mapping[str, Any]:
    """The template of a deployment.

    Args:
        deployment: What is deployed.
        folder: Where the cloud assembly is written.
    """
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    app = App(outdir=str(folder), context={**context, **_CLI_CONTEXT, **_NO_LIMIT}, analytics_reporting=True)
    stack = LockstepStack(app, deployment)
    app.synth()
    template: Mapping[str, Any] = json.loads((folder / stack.template_file).read_text(encoding="utf-8"))
    return template


def main() -> int:
    """Synthesise the stack and return the exit code."""
    app = App()
    try:
        check_names(app.node.get_all_context())
        deployment = read_deployment(Settings.from_context(app.node.try_get_context))
        check_complete(deployment)
        LockstepStack(app, deployment)
    except PlanProblemsError as error:
        print("\n".join(error.lines), file=sys.stderr)  # noqa: T201 - the CLI shows it
        return 2
    except (NotDeployableError, BundleError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the CLI shows it
        return 2
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
