"""What exists in a tenancy is adopted, and nobody gets permissions where others have secrets."""

import json

import pytest

from tests.infrastructure.terraform.case import Document, Stack, needs_tools, plan_document, with_image

pytestmark = needs_tools

RINGS, OWN = "ocid1.compartment.oc1..aaaa", "ocid1.compartment.oc1..platform"
ELSEWHERE, TENANCY = "ocid1.compartment.oc1..shared", "ocid1.tenancy.oc1..aaaa"
VAULT = "ocid1.vault.oc1.eu-frankfurt-1.estate"
EVERYTHING: Document = {
    "compartment_ocid": OWN,
    "vault_ocid": VAULT,
    "secrets_key_ocid": "ocid1.key.oc1.eu-frankfurt-1.secrets",
    "audit_key_ocid": "ocid1.key.oc1.eu-frankfurt-1.audit",
    "topic_ocid": "ocid1.onstopic.oc1.eu-frankfurt-1.ops",
}


@pytest.fixture(name="estate")
def _estate() -> Stack:
    """A tenancy with everything that Lockstep can adopt, made by others: what data sources find."""
    ends = {"management_endpoint": "https://estate", "crypto_endpoint": "https://estate"}
    there = {
        "oci_kms_vault.adopted": ends,
        "oci_ons_notification_topic.adopted": {"compartment_id": ELSEWHERE},
    }
    return Stack(plan=plan_document(), there=there)


def test_everything_is_adopted_at_once(estate: Stack) -> None:
    estate.name_made(estate.apply(**EVERYTHING).outputs)
    assert (estate.store["vault_id"], estate.store["own_compartment_id"]) == (VAULT, OWN)
    made = estate.apply(**with_image(**EVERYTHING))
    text = json.dumps(dict(made.resources))
    assert [ocid for ocid in EVERYTHING.values() if ocid not in text] == []
    kinds = ("identity_compartment", "kms_vault", "ons_notification_topic")
    assert not made.kinds & {f"oci_{kind}" for kind in kinds}
    # Each stack signs its digests with a key of its own.
    assert list(made.all("oci_kms_key")) == ["digests[0]"]
    # The topic is in a compartment of others: the policies go there, and cover nothing else in it.
    assert {s.permissions for s in made.policy if s.compartment == ELSEWHERE} == {
        frozenset({"ONS_TOPIC_PUBLISH"})
    }


def test_nobody_gets_permissions_in_a_compartment_with_secrets_of_others(estate: Stack) -> None:
    stranger = {"secret_name": "payroll", "vault_id": VAULT, "state": "ACTIVE", "id": "x"}
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
