"""OCI beside a stack that was deployed to the sandbox's AWS: what Terraform makes there, and the standby.

Neither cloud has a key of the other one: the domain trusts the account's tokens, and the stack's role those of the
issuer.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cdk.settings import PRINCIPALS_OUTPUT, oci_runner_name
from lockstep.protocol.names import DOCTOR
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from lockstep.runtime.wiring import DIGEST_VARIABLE, DOCTOR_VARIABLE
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.deployed import DeployedStack
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.emulators.oci.keys import Key
from sandbox.fn import FunctionProcess, function_variables, running_function
from sandbox.identities import (
    digest_key,
    federated,
    function_key,
    grant,
    know_application,
    let_in,
    make_issuer,
)
from sandbox.plans import TO_OCI

APPLICATION_ID, FUNCTION_ID = "ocid1.fnapp.oc1..lockstep", "ocid1.fnfunc.oc1..rotate"
DOCTOR_ID = "ocid1.fnfunc.oc1..doctor"


def planned_runners(aws: AwsSandbox, oci: OciSandbox, stack: str) -> plans.Document:
    """`runners` of a plan whose stack makes what AWS knows of them; makes what OCI knows of AWS.

    Args:
        aws: The account.
        oci: The tenancy.
        stack: The name of the stack.
    """
    let_in(aws, oci)
    role_arn = f"arn:aws:iam::{aws.account_id}:role/{oci_runner_name(stack)}"
    return federated(oci, {**make_issuer(oci), "role_arn": role_arn})


def know_deployed(aws: AwsSandbox, oci: OciSandbox, stack: DeployedStack) -> None:
    """Let OCI know the roles and the key of the stack, as Terraform and an administrator of the domain do."""
    know_application(aws, oci, key_id=TO_OCI["kms_key"])
    grant(oci, json.loads(stack.outputs[PRINCIPALS_OUTPUT]))


def operator(oci: OciSandbox, folder: Path) -> Mapping[str, str]:
    """The variables of an administrator's environment that are of the tenancy."""
    config = write_config_file(folder, "operator", oci.config())
    return {OCI_ENDPOINT_VARIABLE: oci.endpoint, CONFIG_FILE_VARIABLE: str(config)}


@contextmanager
def running_standby(
    aws: AwsSandbox, oci: OciSandbox, stack: str, folder: Path, plan_file: Path
) -> Iterator[FunctionProcess]:
    """Run the function in OCI, and the doctor's beside it, under the names that Terraform gives them; the first.

    Args:
        aws: The account.
        oci: The tenancy.
        stack: The name of the stack.
        folder: For its config file.
        plan_file: The plan.
    """
    config = write_config_file(folder, "function", function_key(oci))
    variables = function_variables(aws=aws.url, oci=oci.endpoint, plan=plan_file, config=config)
    doctors = {**variables, DOCTOR_VARIABLE: "1"}
    with running_function(variables) as running, running_function(doctors) as doctor:
        know_functions(oci, stack, running, doctor)
        yield running


@contextmanager
def running_digests(
    aws: AwsSandbox, oci: OciSandbox, folder: Path, plan_file: Path, key: Key
) -> Iterator[FunctionProcess]:
    """Run the function that makes OCI's digests.

    Args:
        aws: The account.
        oci: The tenancy.
        folder: For its config file.
        plan_file: The plan.
        key: What signs.
    """
    config = write_config_file(folder, "digest", digest_key(oci))
    variables = function_variables(aws=aws.url, oci=oci.endpoint, plan=plan_file, config=config)
    with running_function({**variables, DIGEST_VARIABLE: f"{key.ocid}@{oci.endpoint}"}) as running:
        yield running


def know_functions(
    oci: OciSandbox, application: str, standby: FunctionProcess, doctor: FunctionProcess
) -> None:
    """Let the tenancy have both functions.

    Args:
        oci: The tenancy.
        application: The name of their application.
        standby: What answers as the standby.
        doctor: What answers as the doctor.
    """
    here: dict[str, Any] = {"compartmentId": oci.own_compartment_id, "lifecycleState": "ACTIVE"}
    oci.deployment.applications = [{**here, "id": APPLICATION_ID, "displayName": application}]
    named = {"applicationId": APPLICATION_ID, "invokeEndpoint": oci.endpoint}
    oci.deployment.functions = [
        {**here, **named, "id": FUNCTION_ID, "displayName": "rotate"},
        {**here, **named, "id": DOCTOR_ID, "displayName": DOCTOR},
    ]
    oci.functions.code.update({FUNCTION_ID: standby.invoked, DOCTOR_ID: doctor.invoked})
