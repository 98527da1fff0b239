"""What exists in a tenancy is adopted: one by one, all at once, and never what does not fit."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.infrastructure.terraform import tenancy
from tests.infrastructure.terraform.policies import statements
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

RINGS = "ocid1.compartment.oc1..aaaa"
OWN = "ocid1.compartment.oc1..platform"
ELSEWHERE = "ocid1.compartment.oc1..shared"
TENANCY = "ocid1.tenancy.oc1..aaaa"
VAULT = "ocid1.vault.oc1.eu-frankfurt-1.estate"
SECRETS_KEY, AUDIT_KEY = "ocid1.key.oc1.eu-frankfurt-1.secrets", "ocid1.key.oc1.eu-frankfurt-1.audit"
SECRETS = {
    "multi-cloud.app_user.0": ("ocid1.vaultsecret.oc1.eu-frankfurt-1.slot", RINGS),
    "lockstep.admin.orders": ("ocid1.vaultsecret.oc1.eu-frankfurt-1.admin", OWN),
    "lockstep.aws-key": ("ocid1.vaultsecret.oc1.eu-frankfurt-1.aws", OWN),
    "lockstep.mac": ("ocid1.vaultsecret.oc1.eu-frankfurt-1.mac", OWN),
}
BUCKETS = {"adopt_audit_bucket": "lockstep-audit", "adopt_plan_bucket": "lockstep-audit-plans"}
"""By the variable that adopts one."""
KEY = f" where target.key.id = '{AUDIT_KEY}'"
FUNCTIONS, SCHEDULES = "ocid1.dynamicgroup.oc1..functions", "ocid1.dynamicgroup.oc1..schedules"
TOPIC, LOG_GROUP = "ocid1.onstopic.oc1.eu-frankfurt-1.ops", "ocid1.loggroup.oc1.eu-frankfurt-1.ops"


def estate() -> dict[str, tuple[str, Document]]:
    """Everything that Lockstep can adopt, made by others: type and values by OCID."""
    found: dict[str, tuple[str, Document]] = {
        OWN: (
            "oci_identity_compartment",
            {"compartment_id": TENANCY, "name": "platform", "description": "Ours."},
        ),
        VAULT: ("oci_kms_vault", {"compartment_id": ELSEWHERE, "management_endpoint": "https://estate"}),
        SECRETS_KEY: ("oci_kms_key", {"compartment_id": ELSEWHERE}),
        AUDIT_KEY: ("oci_kms_key", {"compartment_id": ELSEWHERE}),
        "ocid1.policy.oc1..key": (
            "oci_identity_policy",
            {
                "compartment_id": ELSEWHERE,
                "name": "bucket-keys",
                "statements": [
                    f"Allow service objectstorage-eu-frankfurt-1 to use keys in compartment id {ELSEWHERE}{KEY}",
                ],
            },
        ),
        **{
            f"ocid1.bucket.oc1.eu-frankfurt-1.{argument}": (
                "oci_objectstorage_bucket",
                {
                    "compartment_id": ELSEWHERE,
                    "namespace": "tenant",
                    "name": name,
                    "access_type": "NoPublicAccess",
                    "versioning": "Enabled",
                },
            )
            for argument, name in BUCKETS.items()
        },
        FUNCTIONS: ("oci_identity_dynamic_group", {"compartment_id": TENANCY, "name": "all-functions"}),
        SCHEDULES: ("oci_identity_dynamic_group", {"compartment_id": TENANCY, "name": "all-schedules"}),
        TOPIC: ("oci_ons_notification_topic", {"compartment_id": ELSEWHERE, "name": "ops"}),
        LOG_GROUP: ("oci_logging_log_group", {"compartment_id": ELSEWHERE, "display_name": "ops"}),
    }
    for name, (ocid, compartment) in SECRETS.items():
        values = {"secret_name": name, "vault_id": VAULT, "compartment_id": compartment, "value": "it works"}
        found[ocid] = ("oci_vault_secret", values)
    return found


BEFORE_THE_RUNNER: Mapping[str, Document] = {
    "compartment": {"compartment_ocid": OWN},
    "vault": {"vault_ocid": VAULT},
    "secrets' key": {"vault_ocid": VAULT, "secrets_key_ocid": SECRETS_KEY},
    "audit key": {"audit_key_ocid": AUDIT_KEY},
    **{argument: {argument: True} for argument in BUCKETS},
    "secrets": {
        "vault_ocid": VAULT,
        "compartment_ocid": OWN,
        "adopted_secrets": {name: ocid for name, (ocid, _) in SECRETS.items()},
    },
}
OF_THE_RUNNER: Mapping[str, Document] = {
    "dynamic group of the function": {"function_dynamic_group_ocid": FUNCTIONS},
    "dynamic group of the schedules": {"schedules_dynamic_group_ocid": SCHEDULES},
    "topic": {"topic_ocid": TOPIC},
    "log group": {"log_group_ocid": LOG_GROUP},
}
EVERYTHING: Document = {
    k: v for d in (BEFORE_THE_RUNNER, OF_THE_RUNNER) for part in d.values() for k, v in part.items()
}


@pytest.fixture(name="blank", scope="module")
def _blank(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return Stack.new(tmp_path_factory.mktemp("blank"), plan_document())


@pytest.fixture(name="fresh")
def _fresh(blank: Stack, tmp_path: Path) -> Stack:
    """Nothing is deployed, in a tenancy with the estate."""
    stack = blank.copy(tmp_path)
    change(stack, {})
    return stack


def change(stack: Stack, changes: Mapping[str, Document]) -> None:
    """Put the estate into the tenancy, with other values of some resources, and with more resources."""
    document = tenancy.read(stack.tenancy)
    there = tenancy.Tenancy(document)
    for ocid, (kind, values) in estate().items():
        there.put(kind, ocid, {"id": ocid, **values, **changes.get(ocid, {})})
    for ocid in changes.keys() - estate().keys():
        there.put(changes[ocid]["type"], ocid, {"id": ocid, **changes[ocid]})
    tenancy.write(stack.tenancy, document)


def leave_out(stack: Stack, variables: Mapping[str, object]) -> None:
    """Take out of the tenancy what has a name that the stack needs, unless it is adopted."""
    document = tenancy.read(stack.tenancy)
    taken = {name for argument, name in BUCKETS.items() if argument not in variables}
    taken |= SECRETS.keys() if "adopted_secrets" not in variables else set()
    document["resources"] = {
        ocid: resource
        for ocid, resource in document["resources"].items()
        if (resource["values"].get("secret_name") or resource["values"].get("name")) not in taken
    }
    tenancy.write(stack.tenancy, document)


def add_stranger(stack: Stack, compartment: str) -> None:
    """Put a secret of others into a compartment."""
    document = tenancy.read(stack.tenancy)
    values = {"secret_name": "payroll", "vault_id": VAULT, "compartment_id": compartment}
    tenancy.Tenancy(document).put("oci_vault_secret", "ocid1.vaultsecret.oc1..payroll", values)
    tenancy.write(stack.tenancy, document)


def untouched(stack: Stack, *, at_least: int = 8) -> bool:
    """Whether everything of the estate is as it was."""
    resources = tenancy.read(stack.tenancy)["resources"]
    left = {ocid: values for ocid, (_, values) in estate().items() if ocid in resources}
    assert len(left) >= at_least
    return all(
        (resources[ocid]["values"], resources[ocid]["lifecycle"]) == ({"id": ocid, **values}, "ACTIVE")
        for ocid, values in left.items()
    )


def uses(deployment: Deployment, variables: Document) -> bool:
    """Whether the stack names everything that was adopted."""
    text = json.dumps([r["values"] for r in deployment.resources if r["mode"] == "managed"]) + json.dumps(
        deployment.outputs
    )
    ids = [value for value in variables.values() if isinstance(value, str) and value.startswith("ocid1.")]
    # An adopted bucket has its key.
    needless = AUDIT_KEY if "adopt_audit_bucket" in variables else ""
    return all(ocid in text for ocid in ids if ocid != needless)


def texts(results: list[Document]) -> str:
    return " ".join("\n".join(messages(results)).split())


@pytest.mark.parametrize("what", BEFORE_THE_RUNNER)
def test_each_is_adopted_alone(what: str, fresh: Stack) -> None:
    variables = BEFORE_THE_RUNNER[what]
    leave_out(fresh, variables)
    deployment = fresh.apply(**variables)
    assert uses(deployment, variables)
    made = {s["secret_name"] for s in deployment.secrets.values()}
    assert not made & variables.get("adopted_secrets", {}).keys()
    for kind, argument in {
        "oci_identity_compartment": "compartment_ocid",
        "oci_kms_vault": "vault_ocid",
    }.items():
        assert bool(deployment.all(kind)) is (argument not in variables), kind
    buckets = {values["name"] for values in deployment.all("oci_objectstorage_bucket").values()}
    assert buckets == {name for argument, name in BUCKETS.items() if argument not in variables}
    (planned,) = fresh.run(("plan", None), **variables)
    assert planned["code"] == 0, texts([planned])
    assert untouched(fresh)


def test_what_belongs_to_the_standby_is_adopted_one_by_one(fresh: Stack) -> None:
    """Also later: what Terraform made in its place goes."""
    variables = with_image(compartment_ocid=OWN)
    leave_out(fresh, variables)
    fresh.name_made(fresh.apply(compartment_ocid=OWN).outputs)
    for what in OF_THE_RUNNER.values():
        variables |= what
        deployment = fresh.apply(**variables)
        assert uses(deployment, variables), what
    for kind in ("oci_identity_dynamic_group", "oci_ons_notification_topic", "oci_logging_log_group"):
        assert not deployment.all(kind)
    assert untouched(fresh)


def test_everything_is_adopted_at_once_and_outlives_the_stack(fresh: Stack) -> None:
    fresh.name_made(fresh.apply(**EVERYTHING).outputs)
    assert (fresh.store["vault_id"], fresh.store["own_compartment_id"]) == (VAULT, OWN)
    variables = with_image(**EVERYTHING)
    deployment = fresh.apply(**variables)
    assert uses(deployment, variables)
    made = {r["type"] for r in deployment.resources if r["mode"] == "managed"}
    assert not made & {
        "oci_identity_compartment",
        "oci_kms_vault",
        "oci_kms_key",
        "oci_objectstorage_bucket",
        "oci_identity_dynamic_group",
        "oci_ons_notification_topic",
        "oci_logging_log_group",
    }
    # The bucket and the topic are in a compartment of others: the policies go there, and cover nothing else in it.
    there = [s for s in statements(fresh, deployment) if s.compartment == ELSEWHERE]
    assert {(frozenset(s.permissions), frozenset(s.targets)) for s in there} == {
        (frozenset({"OBJECT_CREATE", "OBJECT_INSPECT"}), frozenset({"target.bucket.name"})),
        (frozenset({"OBJECT_READ"}), frozenset({"target.bucket.name"})),
        (frozenset({"OBJECT_READ", "OBJECT_INSPECT"}), frozenset({"target.bucket.name"})),
        # Notifications has no variable for a topic (Oracle's policy reference).
        (frozenset({"ONS_TOPIC_PUBLISH"}), frozenset()),
    }
    shutil.copyfile(CONFIGURATION / "trial_override.tf.example", fresh.folder / "trial_override.tf")
    succeeded(fresh.run(("destroy", None), **variables))
    assert untouched(fresh, at_least=len(estate()))


def test_what_does_not_fit_is_not_adopted(fresh: Stack) -> None:
    slot, admin, aws, mac = (ocid for ocid, _ in SECRETS.values())
    change(
        fresh,
        {
            admin: {"vault_id": "ocid1.vault.oc1.eu-frankfurt-1.other"},
            aws: {"compartment_id": RINGS},
            **{
                f"ocid1.bucket.oc1.eu-frankfurt-1.{argument}": {
                    "access_type": "ObjectRead",
                    "versioning": "Disabled",
                }
                for argument in BUCKETS
            },
        },
    )
    named = {
        "multi-cloud.app_user.1": slot,
        "lockstep.admin.orders": admin,
        "lockstep.aws-key": aws,
        "nobody": mac,
    }
    (result,) = fresh.run(("plan", None), **{**EVERYTHING, "adopted_secrets": named})
    text = texts([result])
    for complaint in (
        f"{slot} is named multi-cloud.app_user.0, not multi-cloud.app_user.1",
        "so adopt it with vault_ocid. In another one: lockstep.admin.orders.",
        "Move these there (oci vault secret change-compartment): lockstep.aws-key.",
        "the plan has no secret with this name in Vault: nobody.",
        "must be private (oci os bucket update --name lockstep-audit --public-access-type NoPublicAccess)",
        "must keep versions or have a retention rule",
        "must be private (oci os bucket update --name lockstep-audit-plans --public-access-type NoPublicAccess)",
        "must keep versions, so that what is replaced leaves a trace",
    ):
        assert complaint in text


def test_a_bucket_under_a_retention_rule_is_adopted(fresh: Stack) -> None:
    rule: Document = {"display_name": "legal", "time_rule_locked": None, "duration": []}
    change(
        fresh,
        {
            "ocid1.bucket.oc1.eu-frankfurt-1.adopt_audit_bucket": {
                "versioning": "Disabled",
                "retention_rules": [rule],
            }
        },
    )
    (planned,) = fresh.run(("plan", None), adopt_audit_bucket=True)
    assert planned["code"] == 2, texts([planned])


def test_nobody_gets_permissions_in_a_compartment_with_secrets_of_others(fresh: Stack) -> None:
    # Below the rings' compartment, by two levels.
    between = {"type": "oci_identity_compartment", "name": "x", "description": "", "compartment_id": RINGS}
    change(
        fresh,
        {
            OWN: {"compartment_id": "ocid1.compartment.oc1..between"},
            "ocid1.compartment.oc1..between": between,
        },
    )
    leave_out(fresh, {})
    add_stranger(fresh, RINGS)
    (result,) = fresh.run(("plan", None), compartment_ocid=OWN)
    text = texts([result])
    assert "it must not be the compartment of the rings (compartment_id in the plan), or below it" in text
    assert "list them in retired_slots: payroll." in text


def test_the_function_reads_no_compartment_with_secrets_of_others(fresh: Stack) -> None:
    leave_out(fresh, {})
    fresh.name_made(fresh.apply(compartment_ocid=OWN).outputs)
    add_stranger(fresh, OWN)
    (result,) = fresh.run(("plan", None), **with_image(compartment_ocid=OWN))
    assert "list them in retired_secrets: " in texts([result])
    assert "payroll" in texts([result])


def test_a_compartment_of_others_with_the_same_name_is_not_taken(fresh: Stack) -> None:
    other = {
        "type": "oci_identity_compartment",
        "compartment_id": TENANCY,
        "name": "lockstep",
        "description": "Mine.",
    }
    change(fresh, {"ocid1.compartment.oc1..other": other})
    (result,) = fresh.run(("plan", None))
    assert "A compartment with the name lockstep exists there, and Lockstep has not made it" in texts(
        [result]
    )
