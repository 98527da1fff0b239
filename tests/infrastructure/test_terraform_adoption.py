"""What exists in a tenancy is adopted: one by one, all at once, and never what does not fit."""

import json
from collections.abc import Mapping

import pytest

from tests.infrastructure.terraform.policies import statements
from tests.infrastructure.terraform.stack import (
    Deployment,
    Document,
    Stack,
    needs_tools,
    plan_document,
    with_image,
)

pytestmark = needs_tools

RINGS = "ocid1.compartment.oc1..aaaa"
OWN = "ocid1.compartment.oc1..platform"
ELSEWHERE = "ocid1.compartment.oc1..shared"
TENANCY = "ocid1.tenancy.oc1..aaaa"
VAULT = "ocid1.vault.oc1.eu-frankfurt-1.estate"
SECRETS_KEY, AUDIT_KEY = "ocid1.key.oc1.eu-frankfurt-1.secrets", "ocid1.key.oc1.eu-frankfurt-1.audit"
SECRETS = {
    "lockstep.admin.orders": ("ocid1.vaultsecret.oc1.eu-frankfurt-1.admin", OWN),
    "lockstep.aws-key": ("ocid1.vaultsecret.oc1.eu-frankfurt-1.aws", OWN),
    "lockstep.mac": ("ocid1.vaultsecret.oc1.eu-frankfurt-1.mac", OWN),
}
BUCKETS = {
    "adopt_audit_bucket": "lockstep-audit",
    "adopt_plan_bucket": "lockstep-audit-plans",
    "adopt_digest_bucket": "lockstep-audit-digests",
}
"""By the variable that adopts one."""
FUNCTIONS, SCHEDULES = "ocid1.dynamicgroup.oc1..functions", "ocid1.dynamicgroup.oc1..schedules"
DIGEST = "ocid1.dynamicgroup.oc1..digest"
TOPIC, LOG_GROUP = "ocid1.onstopic.oc1.eu-frankfurt-1.ops", "ocid1.loggroup.oc1.eu-frankfurt-1.ops"


def estate() -> dict[str, Document]:
    """Everything that Lockstep can adopt, made by others: what data sources find."""
    private = {"compartment_id": ELSEWHERE, "access_type": "NoPublicAccess", "versioning": "Enabled"}
    return {
        "oci_kms_vault.adopted": {
            "management_endpoint": "https://estate",
            "crypto_endpoint": "https://estate",
        },
        "oci_objectstorage_bucket.adopted": {**private, "retention_rules": []},
        "oci_objectstorage_bucket.adopted_plans": private,
        "oci_objectstorage_bucket.adopted_digests": {
            **private,
            "storage_tier": "Standard",
            "retention_rules": [],
        },
        "oci_ons_notification_topic.adopted": {"compartment_id": ELSEWHERE},
    }


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
    "dynamic group of the digests": {"digest_dynamic_group_ocid": DIGEST},
    "dynamic group of the schedules": {"schedules_dynamic_group_ocid": SCHEDULES},
    "topic": {"topic_ocid": TOPIC},
    "log group": {"log_group_ocid": LOG_GROUP},
}
EVERYTHING: Document = {
    k: v for d in (BEFORE_THE_RUNNER, OF_THE_RUNNER) for part in d.values() for k, v in part.items()
}


@pytest.fixture(name="fresh")
def _fresh() -> Stack:
    """A tenancy with the estate."""
    return Stack(plan=plan_document(), there=estate())


def add_secret(stack: Stack, place: str, name: str = "payroll") -> None:
    """Put a secret of others into the compartment `rings` or `own`."""
    found = {"secret_name": name, "vault_id": VAULT, "state": "ACTIVE", "id": "ocid1.vaultsecret.oc1..x"}
    stack.there[f"oci_vault_secrets.{place}"] = {"secrets": [found]}


def uses(deployment: Deployment, variables: Document) -> bool:
    """Whether the stack names everything that was adopted."""
    text = json.dumps([dict(deployment.resources), dict(deployment.outputs)])
    ids = [value for value in variables.values() if isinstance(value, str) and value.startswith("ocid1.")]
    # An adopted bucket has its key.
    needless = AUDIT_KEY if "adopt_audit_bucket" in variables else ""
    return all(ocid in text for ocid in ids if ocid != needless)


# Whether secrets fit is asked of each by its OCID.
ADOPTED = "oci_vault_secret.adopted"


@pytest.mark.parametrize("what", BEFORE_THE_RUNNER)
def test_each_is_adopted_alone(what: str, fresh: Stack) -> None:
    variables = dict(BEFORE_THE_RUNNER[what])
    secrets = variables.pop("adopted_secrets", {})
    deployment = fresh.apply(**variables)
    assert uses(deployment, variables)
    for kind, argument in {
        "oci_identity_compartment": "compartment_ocid",
        "oci_kms_vault": "vault_ocid",
    }.items():
        assert bool(deployment.all(kind)) is (argument not in variables), kind
    buckets = {values["name"] for values in deployment.all("oci_objectstorage_bucket").values()}
    assert buckets == {name for argument, name in BUCKETS.items() if argument not in variables}
    for name, (ocid, compartment) in SECRETS.items() if secrets else ():
        fresh.there[ADOPTED] = {"secret_name": name, "vault_id": VAULT, "compartment_id": compartment}
        made = fresh.apply(**variables, adopted_secrets={name: ocid})
        assert name not in {s["secret_name"] for s in made.secrets.values()}


def test_everything_is_adopted_at_once(fresh: Stack) -> None:
    everything = {name: value for name, value in EVERYTHING.items() if name != "adopted_secrets"}
    fresh.name_made(fresh.apply(**everything).outputs)
    assert (fresh.store["vault_id"], fresh.store["own_compartment_id"]) == (VAULT, OWN)
    deployment = fresh.apply(**with_image(**everything))
    assert uses(deployment, everything)
    assert not deployment.kinds & {
        "oci_identity_compartment",
        "oci_kms_vault",
        "oci_objectstorage_bucket",
        "oci_identity_dynamic_group",
        "oci_ons_notification_topic",
        "oci_logging_log_group",
    }
    # Each stack signs its digests with a key of its own.
    assert list(deployment.all("oci_kms_key")) == ["digests[0]"]
    # The bucket and the topic are in a compartment of others: the policies go there, and cover nothing else in it.
    there = [s for s in statements(deployment) if s.compartment == ELSEWHERE]
    assert {(frozenset(s.permissions), frozenset(s.targets)) for s in there} == {
        (frozenset({"OBJECT_CREATE", "OBJECT_INSPECT"}), frozenset({"target.bucket.name"})),
        (frozenset({"OBJECT_INSPECT"}), frozenset({"target.bucket.name"})),
        (frozenset({"OBJECT_CREATE", "OBJECT_INSPECT", "OBJECT_READ"}), frozenset({"target.bucket.name"})),
        (frozenset({"OBJECT_READ"}), frozenset({"target.bucket.name"})),
        (frozenset({"OBJECT_READ", "OBJECT_INSPECT"}), frozenset({"target.bucket.name"})),
        # Notifications has no variable for a topic (Oracle's policy reference).
        (frozenset({"ONS_TOPIC_PUBLISH"}), frozenset()),
    }


def test_what_does_not_fit_is_not_adopted(fresh: Stack) -> None:
    open_to_all = {"access_type": "ObjectRead", "versioning": "Disabled"}
    for name in ("adopted", "adopted_plans", "adopted_digests"):
        fresh.there[f"oci_objectstorage_bucket.{name}"] |= {**open_to_all, "storage_tier": "Archive"}
    fresh.there[ADOPTED] = {"secret_name": "x", "vault_id": "ocid1.vault.oc1..other", "compartment_id": RINGS}
    named = {"nobody": "ocid1.vaultsecret.oc1..a", "lockstep.admin.orders": "ocid1.vaultsecret.oc1..b"}
    text = fresh.refused(**{**EVERYTHING, "adopted_secrets": named})
    for complaint in (
        "ocid1.vaultsecret.oc1..b is named x, not lockstep.admin.orders",
        "so adopt it with vault_ocid. In another one: lockstep.admin.orders, nobody.",
        "Move these there (oci vault secret change-compartment): lockstep.admin.orders, nobody.",
        "the plan has no secret with this name in Vault: nobody.",
        "must be private (oci os bucket update --name lockstep-audit --public-access-type NoPublicAccess)",
        "must keep versions or have a retention rule",
        "must be private (oci os bucket update --name lockstep-audit-plans --public-access-type NoPublicAccess)",
        "lockstep-audit-digests must be of the Standard tier, so that a digest can be read at once",
        "must be private (oci os bucket update --name lockstep-audit-digests",
        "must keep versions, so that what is replaced leaves a trace",
    ):
        assert complaint in text


def test_a_bucket_under_a_retention_rule_is_adopted(fresh: Stack) -> None:
    rule = {"display_name": "legal"}
    fresh.there["oci_objectstorage_bucket.adopted"] |= {"versioning": "Disabled", "retention_rules": [rule]}
    assert fresh.apply(adopt_audit_bucket=True)


def compartments(stack: Stack, *found: Document) -> None:
    active = [{"description": "", "state": "ACTIVE", **one} for one in found]
    stack.there["oci_identity_compartments.all"] = {"compartments": active}


def test_nobody_gets_permissions_in_a_compartment_with_secrets_of_others(fresh: Stack) -> None:
    # Below the rings' compartment, by two levels.
    between = "ocid1.compartment.oc1..between"
    compartments(
        fresh,
        {"id": OWN, "name": "platform", "compartment_id": between},
        {"id": between, "name": "x", "compartment_id": RINGS},
    )
    add_secret(fresh, "rings")
    text = fresh.refused(compartment_ocid=OWN)
    assert "it must not be the compartment of the rings (compartment_id in the plan), or below it" in text
    assert "list them in retired_slots: payroll." in text


def test_the_function_reads_no_compartment_with_secrets_of_others(fresh: Stack) -> None:
    fresh.name_made(fresh.apply(compartment_ocid=OWN).outputs)
    add_secret(fresh, "own")
    assert "list them in retired_secrets: payroll." in fresh.refused(**with_image(compartment_ocid=OWN))


def test_a_compartment_of_others_with_the_same_name_is_not_taken(fresh: Stack) -> None:
    compartments(fresh, {"id": "x", "name": "lockstep", "compartment_id": TENANCY, "description": "Mine."})
    text = fresh.refused()
    assert "A compartment with the name lockstep exists there, and Lockstep has not made it" in text
