"""Slots go from Terraform to `lockstep provision` and back, by the real Terraform: none is lost, changed or remade."""

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lockstep.plan import Plan
from lockstep.plan_file import parse_plan
from lockstep.provision.content import OCI_DESCRIPTION, OCI_TEXT
from lockstep.provision.decide import RingTerms, slots_in_oci
from lockstep.provision.imports import import_blocks
from lockstep.provision.settings import ring_terms
from lockstep.store_kinds.oci_vault import OciVault
from tests.infrastructure.terraform import tenancy
from tests.infrastructure.terraform.stack import (
    Deployment,
    Document,
    Stack,
    messages,
    needs_tools,
    plan_document,
    succeeded,
)

# Each test runs Terraform up to ten times.
pytestmark = [needs_tools, pytest.mark.timeout(1800)]
BY_COMMAND = {
    "secrets": "provision",
    "freeform_tags": {"team": "data"},
    "defined_tags": {"Finance.CostCenter": "42"},
}
BY_TERRAFORM = {**BY_COMMAND, "secrets": "terraform"}


@pytest.fixture(name="blank", scope="module")
def _blank(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The configuration after `terraform init`; nothing is deployed."""
    return Stack.new(tmp_path_factory.mktemp("blank"), plan_document())


def plan_of(stack: Stack) -> Plan:
    return parse_plan(json.dumps(stack.plan), base=Path())


def slots_of(stack: Stack) -> list[str]:
    plan = plan_of(stack)
    vault = plan.store(OciVault)
    assert vault
    return slots_in_oci(plan, vault)


def terms_of(deployment: Deployment) -> RingTerms:
    return ring_terms(deployment.outputs["provision"], region="eu-frankfurt-1")


def secrets(stack: Stack) -> Mapping[str, Document]:
    """Every secret in the tenancy, as it is, by OCID."""
    resources = tenancy.read(stack.tenancy)["resources"]
    return {ocid: r for ocid, r in resources.items() if r["type"] == "oci_vault_secret"}


def in_the_tenancy(stack: Stack, names: Iterable[str]) -> dict[str, str]:
    """The OCIDs of living secrets of these names."""
    found = {
        r["values"]["secret_name"]: ocid for ocid, r in secrets(stack).items() if r["lifecycle"] == "ACTIVE"
    }
    return {name: found[name] for name in names if name in found}


def provision(stack: Stack, terms: RingTerms) -> None:
    """Make in the tenancy what the command makes in a vault; `tests/contract/test_provision_oci.py` runs it."""
    document = tenancy.read(stack.tenancy)
    there = tenancy.Tenancy(document)
    missing = set(slots_of(stack)) - in_the_tenancy(stack, slots_of(stack)).keys()
    for name in sorted(missing):
        values: dict[str, Any] = {
            "compartment_id": terms.compartment_id,
            "vault_id": terms.vault_id,
            "key_id": terms.key_id,
            "secret_name": name,
            "description": OCI_DESCRIPTION,
            "freeform_tags": dict(terms.freeform_tags),
            "defined_tags": dict(terms.defined_tags) or None,
        }
        ocid = there.create("oci_vault_secret", "vaultsecret", values)
        there.put("oci_vault_secret", ocid, {**values, "id": ocid})
    tenancy.write(stack.tenancy, document)


def changes_nothing(stack: Stack, **variables: object) -> None:
    (planned,) = stack.run(("plan", None), **variables)
    assert planned["code"] == 0, messages([planned])


def slots_managed(deployment: Deployment) -> list[str]:
    return [address for address in deployment.secrets if address.startswith("slot")]


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
    provision(fresh, terms_of(first))
    second = fresh.apply(**BY_COMMAND)
    assert second.outputs["slots"] == in_the_tenancy(fresh, slots_of(fresh))
    assert len(second.outputs["slots"]) == 16
    [_, read] = second.outputs["application_grants"]["batch"]
    assert all(ocid in read for name, ocid in second.outputs["slots"].items() if name.startswith("batch."))
    changes_nothing(fresh, **BY_COMMAND)


def test_slots_go_from_terraform_to_the_command_and_back(fresh: Stack) -> None:
    before = fresh.apply(**BY_TERRAFORM)
    there = secrets(fresh)
    # Terraform refuses to delete what it still manages.
    (refused,) = fresh.run(("plan", None), **BY_COMMAND)
    assert refused["code"] == 1
    assert "Instance cannot be destroyed" in " ".join(messages([refused]))
    # So it is told to forget the slots first.
    succeeded(fresh.run(("state_rm", "oci_vault_secret.slot"), **BY_TERRAFORM))
    handed = fresh.apply(**BY_COMMAND)
    assert slots_managed(handed) == []
    assert secrets(fresh) == there
    for name in ("slots", "application_grants"):
        assert handed.outputs[name] == before.outputs[name]
    # The command makes what is new; nothing is removed.
    credential = {**fresh.plan["credentials"][1], "id": "more", "username": "more"}
    fresh.plan["credentials"].append(
        {**credential, "secrets": {"app_user": "more", "connection_blob": "more-blob"}}
    )
    provision(fresh, terms_of(handed))
    assert len(fresh.apply(**BY_COMMAND).outputs["slots"]) == 24
    assert there.items() <= secrets(fresh).items()
    # And back, by the import blocks that the command writes.
    there = secrets(fresh)
    blocks = fresh.folder / "imports.tf"
    blocks.write_text(import_blocks(in_the_tenancy(fresh, slots_of(fresh)).items()))
    back = fresh.apply(**BY_TERRAFORM)
    assert len(slots_managed(back)) == 24
    assert secrets(fresh) == there
    blocks.unlink()
    changes_nothing(fresh, **BY_TERRAFORM)


def test_without_the_import_blocks_nothing_is_made_twice(fresh: Stack) -> None:
    provision(fresh, terms_of(fresh.apply(**BY_COMMAND)))
    there = secrets(fresh)
    (refused,) = fresh.run(("apply", None), **BY_TERRAFORM)
    assert refused["code"] == 1
    assert "already exists" in " ".join(messages([refused]))
    assert secrets(fresh) == there


def test_what_has_left_the_plan_is_a_stranger_until_it_is_named(fresh: Stack) -> None:
    provision(fresh, terms_of(fresh.apply(**BY_COMMAND)))
    there = secrets(fresh)
    gone = fresh.plan["credentials"].pop(1)
    (refused,) = fresh.run(("plan", None), **BY_COMMAND)
    assert "retired_slots" in " ".join(messages([refused]))
    left = [
        n
        for n in in_the_tenancy(fresh, [r["values"]["secret_name"] for r in there.values()])
        if n not in slots_of(fresh)
    ]
    retired = [n for n in left if n.startswith((gone["id"], "connection"))]
    assert len(retired) == 8
    fresh.apply(**BY_COMMAND, retired_slots=retired)
    assert secrets(fresh) == there
