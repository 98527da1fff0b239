"""Both clouds in which nothing is wrong: what the stack, Terraform and people make; and the doctor in them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockstep.databases.findings import Finding
from lockstep.operate.access import operator
from lockstep.operate.doctor.checks import Check, Context, examine
from lockstep.operate.doctor.clouds import own_secrets_of
from lockstep.operate.secrets import wanted
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.protocol.deadlines import CloudTimeouts, Timeouts
from lockstep.protocol.model import FORMAT, Engine
from lockstep.protocol.names import DEFAULT_STACK, SecretKind
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox, resources
from sandbox.emulators.aws.resources import ORDER_KEY, create_lock_table, create_mac_key
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from sandbox.identities import Identities, Way, make_identities
from sandbox.oci_resources import create_audit_bucket, create_ring, create_secret, names_in
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE

CREDENTIAL, LEDGER = "multi-cloud/app_user", "multi-cloud/ledger"
PLACEHOLDER = '{"placeholder": true}'
PATIENT = Timeouts(cloud=CloudTimeouts(connect_seconds=60.0, read_seconds=60.0))
"""No service is silent here, and the first call of one may take long: the emulator makes it then."""


@dataclass(kw_only=True)
class World:
    """What is looked at.

    Attributes:
        document: The content of the plan file.
        identities: Who the runners are.
    """

    folder: Path
    document: plans.Document
    plan: Plan
    aws: AwsSandbox
    oci: OciSandbox
    identities: Identities

    @property
    def secrets(self) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        return self.aws.client("secretsmanager")

    def examined(self, checks: Sequence[Check]) -> list[Finding]:
        """What checks find now."""
        clouds = operator(self.plan)
        clouds.timeouts, clouds.side_by_side = PATIENT, one_after_the_other
        return examine(checks, Context(plan=self.plan, clouds=clouds))

    def replan(self, **changes: object) -> None:
        """Change sections of the plan file."""
        self.plan = load_plan(plans.write_plan(self.plan_file, self.document | changes))

    @property
    def plan_file(self) -> Path:
        """The plan, as the command reads it."""
        return self.folder / "lockstep.yaml"

    def record(self, credential_id: str, **attributes: Any) -> None:  # noqa: ANN401 - of DynamoDB
        """Set attributes of a lock record."""
        self.aws.client("dynamodb").update_item(
            TableName=LOCK_TABLE,
            Key={"credential_id": {"S": credential_id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
        )

    def fill_aws(self) -> None:
        """Make what a deployed plan has in AWS."""
        create_lock_table(self.aws.client("dynamodb"), LOCK_TABLE)
        for credential in self.plan.credentials:
            self.record(
                credential.id,
                plan={"S": credential.plan_digest},
                format={"N": str(FORMAT)},
                next_due_at={"N": str(int(time.time()) + 600)},
            )
        resources.create_audit_bucket(self.aws.client("s3"), AUDIT_BUCKET, region=self.aws.region)
        texts = {SecretKind.ADMIN: '{"username": "a", "password": "b"}'}
        for one in wanted(self.plan):
            self.secrets.create_secret(
                Name=one.name,
                SecretString=self.identities.in_aws.get(one.name) or texts.get(one.kind, PLACEHOLDER),
                Tags=[{"Key": key, "Value": value} for key, value in one.tags(DEFAULT_STACK).items()],
            )

    def fill_oci(self) -> None:
        """Make what it has in OCI."""
        for credential in self.plan.credentials:
            for name in (credential.secret_names.app_user, credential.secret_names.connection_blob):
                create_ring(self.oci, name, PLACEHOLDER)
        texts = {name.replace("/", "."): text for name, text in self.identities.in_oci.items()}
        for name in own_secrets_of(self.plan):
            text = texts.get(name, "bGFyZ2U=")
            create_secret(self.oci, name, text.encode(), compartment=self.oci.own_compartment_id)
        create_audit_bucket(self.oci, AUDIT_BUCKET)


@contextmanager
def running_world(folder: Path, way: Way = Way.KEY) -> Iterator[World]:
    """Start both clouds, and make what a deployed plan has there.

    Args:
        folder: For the plan and the configuration.
        way: How the runners prove themselves.
    """
    with ExitStack() as stack:
        aws = stack.enter_context(AwsSandbox())
        oci = stack.enter_context(OciSandbox(names=aws.names))
        key = create_mac_key(aws.client("kms"))
        create_mac_key(aws.client("kms"), ORDER_KEY)
        identities = make_identities(aws, oci, way)
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, tls="")],
            [
                plans.credential(CREDENTIAL, "orders"),
                plans.credential(LEDGER, "orders", username="ledger", interval="1h"),
            ],
            mac_key=key,
            oci=names_in(oci),
            events=True,
        )
        document["runners"] = identities.section
        plan = load_plan(plans.write_plan(folder / "lockstep.yaml", document))
        variables = {
            **aws.environment(),
            CONFIG_FILE_VARIABLE: str(write_config_file(folder, "operator", oci.config())),
            OCI_ENDPOINT_VARIABLE: oci.endpoint,
        }
        stack.enter_context(environment(variables))
        world = World(folder=folder, document=document, plan=plan, aws=aws, oci=oci, identities=identities)
        world.fill_aws()
        world.fill_oci()
        yield world
