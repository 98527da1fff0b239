"""What exists in a tenancy is adopted: one by one, all at once, and never what does not fit."""

import json

import pytest

from tests.infrastructure.terraform.case import (
    DIGESTS,
    LOG,
    Deployment,
    Document,
    Stack,
    needs_tools,
    plan_document,
    with_image,
)

pytestmark = needs_tools

RINGS, OWN = "ocid1.compartment.oc1..aaaa", "ocid1.compartment.oc1..platform"
ELSEWHERE, TENANCY = "ocid1.compartment.oc1..shared", "ocid1.tenancy.oc1..aaaa"
VAULT = "ocid1.vault.oc1.eu-frankfurt-1.estate"
SECRETS_KEY, AUDIT_KEY = (f"ocid1.key.oc1.eu-frankfurt-1.{name}" for name in ("secrets", "audit"))
SECRETS = {
    name: f"ocid1.vaultsecret.oc1.eu-frankfurt-1.{short}"
    for name, short in (
        ("lockstep.admin.orders", "admin"),
        ("lockstep.aws-key", "aws"),
        ("lockstep.mac", "mac"),
    )
}
EVERYTHING: Document = {
    **dict.fromkeys(("adopt_audit_bucket", "adopt_plan_bucket", "adopt_digest_bucket"), True),
    "compartment_ocid": OWN,
    "vault_ocid": VAULT,
    "secrets_key_ocid": SECRETS_KEY,
    "audit_key_ocid": AUDIT_KEY,
    "function_dynamic_group_ocid": "ocid1.dynamicgroup.oc1..functions",
    "digest_dynamic_group_ocid": "ocid1.dynamicgroup.oc1..digest",
    "schedules_dynamic_group_ocid": "ocid1.dynamicgroup.oc1..schedules",
    "topic_ocid": "ocid1.onstopic.oc1.eu-frankfurt-1.ops",
    "log_group_ocid": "ocid1.loggroup.oc1.eu-frankfurt-1.ops",
}
# Whether secrets fit is asked of each by its OCID.
ADOPTED = "oci_vault_secret.adopted"


@pytest.fixture(name="estate")
def _estate() -> Stack:
    """A tenancy with everything that Lockstep can adopt, made by others: what data sources find."""
    private = {"compartment_id": ELSEWHERE, "access_type": "NoPublicAccess", "versioning": "Enabled"}
    bucket = "oci_objectstorage_bucket"
    there = {
        "oci_kms_vault.adopted": {
            "management_endpoint": "https://estate",
            "crypto_endpoint": "https://estate",
        },
        f"{bucket}.adopted": {**private, "retention_rules": []},
        f"{bucket}.adopted_plans": dict(private),
        f"{bucket}.adopted_digests": {**private, "storage_tier": "Standard", "retention_rules": []},
        "oci_ons_notification_topic.adopted": {"compartment_id": ELSEWHERE},
    }
    return Stack(plan=plan_document(), there=there)


def uses(deployment: Deployment, variables: Document) -> bool:
    """Whether the stack names everything that was adopted, but for the key that an adopted bucket has."""
    text = json.dumps([dict(deployment.resources), dict(deployment.outputs)])
    ids = [value for value in variables.values() if isinstance(value, str) and value != AUDIT_KEY]
    return all(ocid in text for ocid in ids)


@pytest.mark.parametrize(
    ("kind", "variable"), [("oci_identity_compartment", "compartment_ocid"), ("oci_kms_vault", "vault_ocid")]
)
def test_one_is_adopted_and_the_rest_is_made(kind: str, variable: str, estate: Stack) -> None:
    before, adopting = estate.apply(), {variable: EVERYTHING[variable]}
    made = estate.apply(**adopting)
    assert uses(made, adopting)
    assert before.kinds - made.kinds == {kind}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_adopted(name: str, estate: Stack) -> None:
    estate.there[ADOPTED] = {"secret_name": name, "vault_id": VAULT, "compartment_id": OWN}
    adopting = {"vault_ocid": VAULT, "compartment_ocid": OWN, "adopted_secrets": {name: SECRETS[name]}}
    made = estate.apply(**adopting)
    assert name not in {s["secret_name"] for s in made.secrets.values()}


def test_everything_is_adopted_at_once(estate: Stack) -> None:
    estate.name_made(estate.apply(**EVERYTHING).outputs)
    assert (estate.store["vault_id"], estate.store["own_compartment_id"]) == (VAULT, OWN)
    made = estate.apply(**with_image(**EVERYTHING))
    assert uses(made, EVERYTHING)
    kinds = ("identity_compartment", "kms_vault", "objectstorage_bucket", "identity_dynamic_group")
    assert not made.kinds & {
        f"oci_{kind}" for kind in (*kinds, "ons_notification_topic", "logging_log_group")
    }
    # Each stack signs its digests with a key of its own.
    assert list(made.all("oci_kms_key")) == ["digests[0]"]
    # The bucket and the topic are in a compartment of others: the policies go there, and cover nothing else in it.
    there = {(s.permissions, frozenset(s.targets)) for s in made.policy if s.compartment == ELSEWHERE}
    bucket = frozenset({"target.bucket.name"})
    rights = ("CREATE INSPECT", "INSPECT", "CREATE INSPECT READ", "READ", "READ INSPECT")
    assert there == {
        *((frozenset(f"OBJECT_{right}" for right in some.split()), bucket) for some in rights),
        # Notifications has no variable for a topic (Oracle's policy reference).
        (frozenset({"ONS_TOPIC_PUBLISH"}), frozenset[str]()),
    }


def test_what_does_not_fit_is_not_adopted(estate: Stack) -> None:
    open_to_all = {"access_type": "ObjectRead", "versioning": "Disabled", "storage_tier": "Archive"}
    for name in ("adopted", "adopted_plans", "adopted_digests"):
        estate.there[f"oci_objectstorage_bucket.{name}"] |= open_to_all
    estate.there[ADOPTED] = {
        "secret_name": "x",
        "vault_id": "ocid1.vault.oc1..other",
        "compartment_id": RINGS,
    }
    named = {"nobody": "ocid1.vaultsecret.oc1..a", "lockstep.admin.orders": "ocid1.vaultsecret.oc1..b"}
    text = estate.refused(**EVERYTHING, adopted_secrets=named)
    for complaint in (
        "ocid1.vaultsecret.oc1..b is named x, not lockstep.admin.orders",
        "so adopt it with vault_ocid. In another one: lockstep.admin.orders, nobody.",
        "Move these there (oci vault secret change-compartment): lockstep.admin.orders, nobody.",
        "the plan has no secret with this name in Vault: nobody.",
        f"must be private (oci os bucket update --name {LOG} --public-access-type NoPublicAccess)",
        "must keep versions or have a retention rule",
        f"must be private (oci os bucket update --name {LOG}-plans --public-access-type NoPublicAccess)",
        f"{DIGESTS} must be of the Standard tier, so that a digest can be read at once",
        f"must be private (oci os bucket update --name {DIGESTS}",
        "must keep versions, so that what is replaced leaves a trace",
    ):
        assert complaint in text


def test_a_bucket_under_a_retention_rule_is_adopted(estate: Stack) -> None:
    rule = {"versioning": "Disabled", "retention_rules": [{"display_name": "legal"}]}
    estate.there["oci_objectstorage_bucket.adopted"] |= rule
    assert estate.apply(adopt_audit_bucket=True)


def test_nobody_gets_permissions_in_a_compartment_with_secrets_of_others(estate: Stack) -> None:
    stranger = {
        "secret_name": "payroll",
        "vault_id": VAULT,
        "state": "ACTIVE",
        "id": "ocid1.vaultsecret.oc1..x",
    }
    compartments = "oci_identity_compartments.all"
    estate.name_made(estate.apply(compartment_ocid=OWN).outputs)
    estate.there["oci_vault_secrets.own"] = {"secrets": [stranger]}
    refused = estate.refused(**with_image(compartment_ocid=OWN))
    assert "list them in retired_secrets: payroll." in refused
    # Below the rings' compartment, by two levels.
    between = "ocid1.compartment.oc1..between"
    active = {"description": "", "state": "ACTIVE"}
    found = [
        {**active, "id": OWN, "name": "platform", "compartment_id": between},
        {**active, "id": between, "name": "x", "compartment_id": RINGS},
    ]
    estate.there[compartments] = {"compartments": found}
    estate.there["oci_vault_secrets.rings"] = {"secrets": [stranger]}
    refused = estate.refused(compartment_ocid=OWN)
    assert "it must not be the compartment of the rings (compartment_id in the plan), or below it" in refused
    assert "list them in retired_slots: payroll." in refused
    # One of others with the same name is not taken.
    mine = {**active, "id": "x", "name": "lockstep", "compartment_id": TENANCY, "description": "Mine."}
    estate.there[compartments] = {"compartments": [mine]}
    refused = estate.refused()
    assert "A compartment with the name lockstep exists there, and Lockstep has not made it" in refused
