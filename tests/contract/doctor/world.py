"""Both clouds in which nothing is wrong, and the doctor in them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.databases.findings import Finding
from lockstep.operate.access import operator
from lockstep.operate.doctor.catalogue import CATALOGUE
from lockstep.operate.doctor.checks import Check, Context, examine
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.protocol.deadlines import CloudTimeouts, Timeouts
from lockstep.protocol.model import Engine
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import ORDER_KEY, create_mac_key
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from tests.contract.doctor import federated_world, oci_world
from tests.contract.doctor.aws_world import AwsWorld

CREDENTIAL = "multi-cloud/app_user"
LEDGER = "multi-cloud/ledger"
PATIENT = Timeouts(cloud=CloudTimeouts(connect_seconds=60.0, read_seconds=60.0))
"""No service is silent here, and the first call of one may take long: the emulator makes it then."""


@dataclass(kw_only=True)
class World:
    """What is looked at.

    Attributes:
        document: The content of the plan file.
    """

    folder: Path
    document: plans.Document
    plan: Plan
    aws: AwsWorld
    oci: OciSandbox

    def examined(self, checks: Sequence[Check]) -> list[Finding]:
        """What checks find now."""
        clouds = operator(self.plan)
        clouds.timeouts = PATIENT
        return examine(checks, Context(plan=self.plan, clouds=clouds), side_by_side=one_after_the_other)

    def by_the_check(self, check_id: str) -> list[Finding]:
        """What one check finds, where its cloud knows who asks."""
        gate = f"{check_id.partition('.')[0]}.identity"
        found = self.examined([check for check in CATALOGUE if check.id in {gate, check_id}])
        return [finding for finding in found if finding.check == check_id]

    def replan(self, **changes: object) -> None:
        """Change sections of the plan file."""
        self.plan = load_plan(plans.write_plan(self.plan_file, self.document | changes))

    @property
    def plan_file(self) -> Path:
        """The plan, as the command reads it."""
        return self.folder / "lockstep.yaml"


@contextmanager
def running_world(
    folder: Path,
    in_front_of_aws: Callable[[Any], Any] = lambda application: application,
    *,
    federated: bool = False,
) -> Iterator[World]:
    """Start both clouds, and make what a deployed plan has there.

    Args:
        folder: For the plan and the configuration.
        federated: Whether the runners have sessions in the other cloud instead of keys.
        in_front_of_aws: Gives the WSGI application that serves AWS's requests in the place of the sandbox's.
    """
    with ExitStack() as stack:
        aws = AwsSandbox()
        aws.application = in_front_of_aws(aws.application)
        stack.enter_context(aws)
        oci = stack.enter_context(OciSandbox(names=aws.names))
        names = plans.OciNames(
            compartment_id=oci.compartment_id,
            own_compartment_id=oci.own_compartment_id,
            vault_id=oci.vault_id,
            namespace=oci.namespace,
        )
        key = create_mac_key(aws.client("kms"))
        create_mac_key(aws.client("kms"), ORDER_KEY)
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, tls="")],
            [
                {**plans.credential(CREDENTIAL, "orders")},
                {
                    **plans.credential(LEDGER, "orders", username="ledger", interval="1h"),
                },
            ],
            mac_key=key,
            oci=names,
            events=True,
        )
        if federated:
            document["runners"] = federated_world.fill(aws, oci)
        plan = load_plan(plans.write_plan(folder / "lockstep.yaml", document))
        oci_key = oci.new_api_key(oci_world.RUNNER)
        fields = {name: oci_key[name] for name in ("tenancy", "user", "fingerprint", "region")}
        account = AwsWorld(aws, plan, json.dumps({**fields, "private_key": oci_key["key_content"]}))
        account.fill()
        oci_world.fill(oci, plan)
        config = write_config_file(folder, "operator", oci.config())
        variables = {
            **aws.environment(),
            CONFIG_FILE_VARIABLE: str(config),
            OCI_ENDPOINT_VARIABLE: oci.endpoint,
        }
        stack.enter_context(environment(variables))
        yield World(folder=folder, document=document, plan=plan, aws=account, oci=oci)
