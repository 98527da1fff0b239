"""The stack's life, with the real CDK CLI: failed, changed, destroyed, deployed again, beside another one.

The tests share one stack and follow each other: each begins with what the one before has left, and ends with a real
rotation.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import jmespath  # type: ignore[import-untyped]  # it ships no types
import pytest

from cdk.settings import ROOT
from sandbox.cdk_cli import CdkError
from tests.infrastructure.life_cycle import Account, Estate, bootstrapped


@pytest.fixture(scope="module", name="account")
def _account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with bootstrapped(tmp_path_factory.mktemp("life-cycle")) as account:
        yield account


@pytest.fixture(scope="module", name="first_failure")
def _first_failure(account: Account) -> str:
    """What the CLI says about a first deployment whose role lacks a permission."""
    account.aws.denied_to_cloudformation.add("cloudwatch:PutDashboard")
    with pytest.raises(CdkError) as failed:
        account.estate("orders", "app", "report").deploy()
    account.aws.denied_to_cloudformation.clear()
    return str(failed.value)


@pytest.fixture(scope="module", name="orders")
def _orders(account: Account, first_failure: str) -> Estate:
    """The stack, deployed after that failure, and rotated once."""
    assert first_failure
    estate = account.estate("orders", "app", "report")
    estate.deploy()
    estate.provision()
    estate.rotate()
    return estate


def test_a_first_deployment_that_fails_leaves_nothing_that_the_next_one_meets(
    first_failure: str, orders: Estate
) -> None:
    assert "is not authorized to perform: cloudwatch:PutDashboard" in first_failure
    assert "DELETE_FAILED" not in first_failure
    assert orders.status() == "CREATE_COMPLETE"


def test_a_failed_update_leaves_a_stack_that_rotates(account: Account, orders: Estate) -> None:
    account.aws.denied_to_cloudformation.add("lambda:UpdateFunctionConfiguration")
    with pytest.raises(CdkError, match="not authorized to perform: lambda:UpdateFunctionConfiguration"):
        orders.deploy(memory_mb=1024)
    account.aws.denied_to_cloudformation.clear()
    assert (orders.status() or "").startswith("UPDATE_ROLLBACK")
    orders.rotate()


def test_a_credential_that_is_removed_and_added_keeps_its_values(account: Account, orders: Estate) -> None:
    values, items = orders.values(), orders.items()
    fewer = account.estate("orders", "app")
    fewer.deploy(bundle=orders.bundle_folder)
    assert fewer.rules() == orders.rules()
    assert orders.values() == values
    orders.deploy_asking()
    assert (orders.values(), orders.items()) == (values, items)
    orders.rotate()


def test_destroyed_and_deployed_again_it_goes_on(orders: Estate) -> None:
    values, items, entries = orders.values(), orders.items(), orders.entries()
    orders.destroy()
    assert orders.status() is None
    with pytest.raises(CdkError, match="AlreadyExists"):
        orders.deploy()
    orders.deploy_asking()
    assert (orders.values(), orders.items(), orders.entries()) == (values, items, entries)
    orders.rotate()
    assert orders.entries() > entries


def test_the_packaging_changes_to_an_image_and_back(account: Account, orders: Estate) -> None:
    """Without Docker no image can be built here, so it is published already, and no function of it runs."""
    image = orders.assembly({"adopt": orders.kept(), "packaging": "image"})
    account.publish_images(image)
    account.cli.deploy_assembly(image)
    assert orders.package_types() == {"Image"}
    orders.deploy(adopt=orders.kept())
    assert orders.package_types() == {"Zip"}
    orders.rotate()


def test_another_stack_of_the_account_is_destroyed_while_this_one_goes_on(
    account: Account, orders: Estate
) -> None:
    values, items, entries = orders.values(), orders.items(), orders.entries()
    billing = account.estate("billing", "app")
    billing.deploy(bundle=orders.bundle_folder)
    kept = billing.values()
    billing.destroy(bundle=orders.bundle_folder)
    assert billing.status() is None
    assert billing.values() == kept
    assert all(json.loads(text) for text in kept.values())
    assert (orders.values(), orders.items(), orders.entries()) == (values, items, entries)
    orders.rotate()


def test_a_trial_is_bounded_and_is_removed_by_the_commands_of_the_runbook(account: Account) -> None:
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    account.aws.client("iam").create_policy(PolicyName="estate", PolicyDocument=document)
    trial = account.estate("trial", "app")
    trial.deploy(
        deletion_protection=False,
        object_lock="governance",
        permissions_boundary="estate",
        tags={"team": "payments"},
    )
    trial.provision()
    trial.rotate()
    entries = trial.entries()
    assert entries
    trial.destroy()
    left = listed(account, trial)
    services = {arn.split(":")[2] for arn in left}
    assert services == {"dynamodb", "kms", "logs", "s3", "secretsmanager"}
    for arn in sorted(left, key=lambda arn: arn.split(":")[2] == "kms"):
        remove(account, arn)
    assert {arn for arn in listed(account, trial) if arn.split(":")[2] != "kms"} == set()
    kms = account.aws.client("kms")
    states = [kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] for arn in listed(account, trial)]
    assert states == ["PendingDeletion"] * 2


def listed(account: Account, estate: Estate) -> set[str]:
    """What is left of a stack, as the runbook lists it, without secrets that wait for their deletion."""
    found = account.aws.client("resourcegroupstaggingapi").get_resources(
        TagFilters=[{"Key": "lockstep:stack", "Values": [estate.stack]}]
    )
    arns = set(query("resourcegroupstaggingapi get-resources", found))
    waiting = account.aws.client("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"]
    return arns - {s["ARN"] for s in waiting if "DeletedDate" in s}


def remove(account: Account, arn: str) -> None:
    """Remove one resource, by the calls that the runbook's commands make."""
    client, name = account.aws.client, arn.split(":", 5)[5]
    match arn.split(":")[2]:
        case "dynamodb":
            client("dynamodb").delete_table(TableName=name.removeprefix("table/"))
        case "secretsmanager":
            client("secretsmanager").delete_secret(SecretId=arn, RecoveryWindowInDays=7)
        case "logs":
            client("logs").delete_log_group(logGroupName=name.removeprefix("log-group:").removesuffix(":*"))
        case "s3":
            s3 = client("s3")
            while found := query("list-object-versions", s3.list_object_versions(Bucket=name))["Objects"]:
                refused = s3.delete_objects(Bucket=name, Delete={"Objects": found})
                # A lock is not passed by chance. The bucket of plans has none.
                assert ("Errors" in refused) == name.endswith("-audit")
                if "Errors" in refused:
                    assert "Errors" not in s3.delete_objects(
                        Bucket=name, Delete={"Objects": found}, BypassGovernanceRetention=True
                    )
            s3.delete_bucket(Bucket=name)
        case "kms":
            kms, key = client("kms"), name.removeprefix("key/")
            for alias in kms.list_aliases(KeyId=key)["Aliases"]:
                kms.delete_alias(AliasName=alias["AliasName"])
            kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)


def query(command: str, answer: object) -> Any:  # noqa: ANN401 - as the command prints it
    """What `--query` of a command of the runbook makes of an answer."""
    text = (ROOT / "docs" / "runbook.md").read_text().replace("\\\n", " ")
    found = re.search(rf"{re.escape(command)} [^\n]*?(?:\n  )?--query '([^']+)'", text)
    assert found, command
    return jmespath.search(found[1], answer)
