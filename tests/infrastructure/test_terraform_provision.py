"""The slots that Terraform makes, and those that it finds where `lockstep provision` makes them."""

import base64
import json
from pathlib import Path

import pytest

from lockstep.plan import Plan
from lockstep.plan_file import parse_plan
from lockstep.provision.content import OCI_DESCRIPTION, OCI_TEXT
from lockstep.provision.decide import RingTerms, slots_in_oci
from lockstep.provision.settings import ring_terms
from lockstep.store_kinds.oci_vault import OciVault
from tests.infrastructure.terraform.stack import (
    Deployment,
    Stack,
    needs_tools,
    plan_document,
)

pytestmark = needs_tools
BY_COMMAND = {
    "secrets": "provision",
    "freeform_tags": {"team": "data"},
    "defined_tags": {"Finance.CostCenter": "42"},
}
BY_TERRAFORM = {**BY_COMMAND, "secrets": "terraform"}


@pytest.fixture(name="fresh")
def _fresh() -> Stack:
    """One for a test that changes it."""
    return Stack(plan=plan_document())


def plan_of(stack: Stack) -> Plan:
    return parse_plan(json.dumps(stack.plan), base=Path())


def slots_of(stack: Stack) -> list[str]:
    plan = plan_of(stack)
    vault = plan.store(OciVault)
    assert vault
    return slots_in_oci(plan, vault)


def terms_of(deployment: Deployment) -> RingTerms:
    return ring_terms(deployment.outputs["provision"], region="eu-frankfurt-1")


def provision(stack: Stack, deployment: Deployment) -> dict[str, str]:
    """Let the slots of the plan be there, as the command makes them; their OCIDs by name."""
    made = {name: f"ocid1.vaultsecret.oc1..{number}" for number, name in enumerate(slots_of(stack))}
    vault = deployment.outputs["vault_id"]
    stack.there["oci_vault_secrets.rings"] = {
        "secrets": [
            {"secret_name": name, "id": ocid, "state": "ACTIVE", "vault_id": vault}
            for name, ocid in made.items()
        ]
    }
    return made


def test_what_the_command_makes_is_what_terraform_makes(fresh: Stack) -> None:
    deployment = fresh.apply(**BY_TERRAFORM)
    terms = terms_of(deployment)
    assert terms.managed == len(slots_of(fresh)) == 16
    for name in slots_of(fresh):
        made = deployment.secrets[f'slot["{name}"]']
        [content] = made["secret_content"]
        assert base64.b64decode(content["content"]).decode() == OCI_TEXT
        assert made["description"] == OCI_DESCRIPTION
        assert (made["compartment_id"], made["vault_id"]) == (terms.compartment_id, terms.vault_id)
        assert made["key_id"] == terms.key_id
        assert made["freeform_tags"] == terms.freeform_tags == {"team": "data", "lockstep-stack": "lockstep"}
        assert made["defined_tags"] == terms.defined_tags == {"Finance.CostCenter": "42"}


def test_the_output_is_read_where_there_are_no_defined_tags(fresh: Stack) -> None:
    assert terms_of(fresh.apply(secrets="provision")).defined_tags == {}


def test_a_fleet_has_its_slots_from_the_command(fresh: Stack) -> None:
    first = fresh.apply(**BY_COMMAND)
    # What people fill in, and the signing key, stay with Terraform.
    assert {address.split("[")[0] for address in first.secrets} == {"by_hand", "mac"}
    assert (first.outputs["slots"], first.outputs["application_grants"]) == ({}, {})
    assert terms_of(first).managed == 0
    made = provision(fresh, first)
    second = fresh.apply(**BY_COMMAND)
    assert second.outputs["slots"] == made
    [_, read] = second.outputs["application_grants"]["batch"]
    assert all(ocid in read for name, ocid in made.items() if name.startswith("batch."))


def test_what_has_left_the_plan_is_a_stranger_until_it_is_named(fresh: Stack) -> None:
    made = provision(fresh, fresh.apply(**BY_COMMAND))
    fresh.plan["credentials"].pop(1)
    assert "list them in retired_slots" in fresh.refused(**BY_COMMAND)
    retired = sorted(made.keys() - slots_of(fresh))
    assert len(retired) == 8
    assert fresh.apply(**BY_COMMAND, retired_slots=retired)
