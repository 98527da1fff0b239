"""The life of the OCI side: half a deployment, a removed credential, the end of a trial, a second stack."""

import shutil
from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest

from tests.infrastructure.terraform import tenancy
from tests.infrastructure.terraform.stack import (
    CONFIGURATION,
    Deployment,
    Document,
    Stack,
    messages,
    needs_tools,
    plan_document,
    succeeded,
    with_image,
)

# Each test runs Terraform up to ten times.
pytestmark = [needs_tools, pytest.mark.timeout(1800)]

TAGGED_BY_NOTHING = {
    "oci_identity_api_key",
    "oci_identity_user_capabilities_management",
    "oci_identity_user_group_membership",
    "time_sleep",
}
"""Types that have no tags."""


@pytest.fixture(name="blank", scope="module")
def _blank(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The configuration after `terraform init`; nothing is deployed."""
    return Stack.new(tmp_path_factory.mktemp("blank"), plan_document())


def texts(results: list[Document]) -> str:
    """The error messages, whose lines Terraform wraps."""
    return " ".join("\n".join(messages(results)).split())


def refused(stack: Stack, command: str = "apply", **variables: object) -> str:
    """The messages of a command that fails."""
    results = stack.run((command, None), **variables)
    assert results[-1]["code"] == 1
    return texts(results)


def edit(stack: Stack, **changes: object) -> None:
    """Change how the tenancy behaves."""
    tenancy.write(stack.tenancy, {**tenancy.read(stack.tenancy), **changes})


def living(stack: Stack) -> Counter[str]:
    """How many resources of each type are in the tenancy."""
    resources = tenancy.read(stack.tenancy)["resources"].values()
    return Counter(r["type"] for r in resources if r["lifecycle"] == "ACTIVE")


def managed(deployment: Deployment) -> Counter[str]:
    return Counter(
        r["type"] for r in deployment.resources if r["mode"] == "managed" and r["type"] != "time_sleep"
    )


def identifiers(deployment: Deployment) -> dict[str, str]:
    return {address: secret["id"] for address, secret in deployment.secrets.items()}


def changes_nothing(stack: Stack, **variables: object) -> None:
    (planned,) = stack.run(("plan", None), **variables)
    assert planned["code"] == 0, texts([planned])


# ---- a deployment that fails


def fails_where_refused(stack: Stack, refuse: dict[str, int], **variables: object) -> None:
    """An apply that gets to each creation that the tenancy refuses.

    Args:
        stack: What is applied.
        refuse: How many creations, by type. Terraform does not create what depends on a failure, and which resources
            of a type come first differs from run to run. So none may depend on another, and what is created beside
            them is not there any more for a later refusal.
        variables: Of the apply.
    """
    edit(stack, refuse=refuse)
    assert "was refused" in refused(stack, "apply", **variables), refuse
    assert not any(tenancy.read(stack.tenancy)["refuse"].values()), "something was not reached"


def test_a_first_deployment_may_fail_anywhere_and_is_repeated(fresh: Stack) -> None:
    for fails in (
        {"oci_identity_compartment": 1},
        {"oci_vault_secret": 5, "oci_objectstorage_bucket": 2},
        # By now only that of the bucket is missing.
        {"oci_identity_policy": 1},
    ):
        fails_where_refused(fresh, fails)
    fresh.name_made(fresh.apply().outputs)
    variables = with_image(alarm_email="ops@example.com")
    for fails in (
        {"oci_functions_function": 1},
        {"oci_resource_scheduler_schedule": 2, "oci_monitoring_alarm": 1},
    ):
        fails_where_refused(fresh, fails, **variables)
    whole = fresh.apply(**variables)
    changes_nothing(fresh, **variables)
    # Nothing was made twice, and nothing is left that Terraform does not know.
    assert living(fresh) == managed(whole)


def test_the_bucket_waits_until_object_storage_knows_the_policy_of_its_key(
    fresh: Stack, tmp_path: Path
) -> None:
    edit(fresh, delay=2)
    hasty = fresh.copy(tmp_path / "hasty")
    assert "404-NotAuthorized" in refused(hasty, identity_delay="0s")
    assert fresh.apply(identity_delay="3s").all("oci_objectstorage_bucket")
    # The one that did not wait goes on where it stopped.
    hasty.apply(identity_delay="3s")
    changes_nothing(hasty, identity_delay="3s")


# ---- a credential that leaves, and comes back


def test_a_credential_is_removed_and_added_again(fresh: Stack) -> None:
    before = identifiers(fresh.apply())
    whole = deepcopy(fresh.plan)
    del fresh.plan["credentials"][1]
    slots = [name for name in fresh_slots(before) if name.startswith(("batch.", "connection"))]
    assert len(slots) == 8
    told = refused(fresh, "plan")
    assert "Instance cannot be destroyed" in told
    assert 'slot["batch.0"]' in told
    # It stays as it is, for those who still read it.
    retired = {"retired_slots": slots}
    assert identifiers(fresh.apply(**retired)) == before
    changes_nothing(fresh, **retired)
    fresh.plan = whole
    assert identifiers(fresh.apply()) == before
    changes_nothing(fresh)


def fresh_slots(secrets: dict[str, str]) -> list[str]:
    return [address.split('"')[1] for address in secrets if address.startswith("slot")]


def test_a_database_is_removed_and_added_again(fresh: Stack) -> None:
    before = identifiers(fresh.apply())
    whole = deepcopy(fresh.plan)
    gone = fresh.plan["databases"].pop(1)
    for credential in fresh.plan["credentials"]:
        credential["databases"] = ["orders"]
    assert 'by_hand["lockstep.admin.reports"]' in refused(fresh, "plan")
    assert gone["oci_admin_secret"] == "lockstep/admin/reports"
    retired = {"retired_secrets": ["lockstep.admin.reports"]}
    assert identifiers(fresh.apply(**retired)) == before
    fresh.plan = whole
    assert identifiers(fresh.apply()) == before


@pytest.mark.parametrize(
    "form",
    [
        {
            "admin_secret": "arn:aws:secretsmanager:eu-central-1:111122223333:secret:x-AbCdEf",
            "oci_admin_secret": "x",
        },
        {"admin_iam": "lockstep_rotator"},
        {"admin_credential": "batch"},
    ],
    ids=lambda form: next(iter(form)),
)
def test_only_admins_with_a_secret_in_vault_have_one_to_fill_in(fresh: Stack, form: dict[str, str]) -> None:
    for database in fresh.plan["databases"]:
        database.pop("admin_secret"), database.pop("oci_admin_secret", None)
        database.update(form)
    to_fill_in = set(fresh.apply().outputs["secrets_to_fill_in"]) - {"lockstep.aws-key"}
    assert to_fill_in == ({"x"} if "oci_admin_secret" in form else set())


# ---- the standby, and a trial, are removed


def test_the_standby_is_removed_and_deployed_again(fresh: Stack) -> None:
    first = fresh.deploy()
    fresh.apply()
    assert not living(fresh)["oci_functions_function"]
    again = fresh.apply(**with_image())
    assert identifiers(again) == identifiers(first)
    assert living(fresh) == managed(again)


def test_a_trial_is_removed_and_deployed_again_under_the_same_names(fresh: Stack) -> None:
    first = fresh.deploy()
    override = fresh.folder / "trial_override.tf"
    shutil.copyfile(CONFIGURATION / "trial_override.tf.example", override)
    succeeded(fresh.run(("destroy", None), **with_image()))
    override.unlink()
    # The compartment stays, and the names of the secrets stay taken in the old vault.
    assert living(fresh) == {"oci_identity_compartment": 1}
    again = fresh.deploy()
    assert again.outputs["own_compartment_id"] == first.outputs["own_compartment_id"]
    assert again.outputs["vault_id"] != first.outputs["vault_id"]
    assert living(fresh) == managed(again)


def test_a_bucket_with_entries_is_not_removed_with_a_trial(fresh: Stack) -> None:
    fresh.apply()
    document = tenancy.read(fresh.tenancy)
    bucket, _ = (r for r in document["resources"].values() if r["type"] == "oci_objectstorage_bucket")
    bucket["values"]["objects"] = ["oci/batch/000000000001.json"]
    tenancy.write(fresh.tenancy, document)
    shutil.copyfile(CONFIGURATION / "trial_override.tf.example", fresh.folder / "trial_override.tf")
    assert "409-BucketNotEmpty" in refused(fresh, "destroy")


# ---- two stacks, names and tags


def test_two_stacks_are_in_one_tenancy_and_share_a_vault(blank: Stack, tmp_path: Path) -> None:
    first = blank.copy(tmp_path / "first")
    one = first.deploy()
    second = blank.copy(tmp_path / "second")
    second.tenancy = first.tenancy
    second.store["compartment_id"] = "ocid1.compartment.oc1..bbbb"
    for credential in second.plan["credentials"]:
        credential.update(id=f"second/{credential['id']}", username=f"second_{credential['username']}")
    second.plan["audit"]["oci"].update(bucket="second-audit", mac_secret="second/mac")
    second.plan["runners"]["oci"]["aws_key_secret"] = "second/aws-key"
    for database in second.plan["databases"]:
        database["oci_admin_secret"] = f"second/admin/{database['name']}"
    variables = {"name": "second", "vault_ocid": one.outputs["vault_id"]}
    two = second.deploy(**variables)
    assert two.outputs["own_compartment_id"] != one.outputs["own_compartment_id"]
    assert not {s["id"] for s in one.secrets.values()} & {s["id"] for s in two.secrets.values()}
    changes_nothing(first, **with_image())
    changes_nothing(second, **with_image(**variables))


def test_every_name_has_the_prefix_and_everything_has_the_tags(fresh: Stack) -> None:
    variables = with_image(
        name="Acme-prod",
        freeform_tags={"team": "data"},
        defined_tags={"Finance.CostCenter": "42"},
        alarm_email="ops@example.com",
        audit_break_glass_group_ocid="ocid1.group.oc1..aaaa",
    )
    fresh.name_made(fresh.apply(**{**variables, "image": ""}).outputs)
    deployment = fresh.apply(**variables)
    made = [r for r in deployment.resources if r["mode"] == "managed" and r["type"] not in TAGGED_BY_NOTHING]
    # What the plan names, and what has no name of its own in the tenancy.
    named_elsewhere = {"oci_vault_secret", "oci_objectstorage_bucket", "oci_ons_subscription"}
    for resource in made:
        values = resource["values"]
        assert values["freeform_tags"] == {"team": "data", "lockstep-stack": "Acme-prod"}, resource["address"]
        assert values["defined_tags"] == {"Finance.CostCenter": "42"}, resource["address"]
        if resource["type"] not in named_elsewhere | {"oci_functions_function"}:
            assert (values.get("display_name") or values["name"]).startswith("Acme-prod"), resource["address"]


def test_tags_that_the_tenancy_sets_are_left_alone(fresh: Stack) -> None:
    deployment = fresh.apply()
    assert all(s["defined_tags"] is None for s in deployment.secrets.values())
