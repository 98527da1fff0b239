"""What becomes of each secret of a fleet, at which pace, and how the work goes on after trouble."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from lockstep.operate.secrets import (
    FIRST_TEXT,
    Action,
    Decision,
    Found,
    FoundSlot,
    RingTerms,
    StackSettings,
    StackTerms,
    Wanted,
    in_aws,
    in_oci,
    ring_terms,
    rotated_in_aws,
    stack_settings,
)
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from lockstep.stores.contents import decode_app_user, extras_in
from sandbox import plans

KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
TERMS = StackTerms(stack="lockstep", key=KEY, tags={"team": "data"})
ONE = Wanted(name="a", kind=SecretKind.APP_USER, region="eu-central-1")
ALL = {"team": "data", STACK_TAG: "lockstep", SECRET_TAG: "app_user"}
RINGS, VAULT = "ocid1.compartment.oc1..rings", "ocid1.vault.oc1.eu.aaaa"
RING = RingTerms(
    region="eu-frankfurt-1",
    compartment_id=RINGS,
    vault_id=VAULT,
    key_id="ocid1.key.oc1.eu.key",
    freeform_tags={"lockstep-stack": "lockstep"},
)


# What becomes of a secret in AWS


def found(
    changes: Mapping[str, str | None] = MappingProxyType({}), *, key: str | None = KEY, deleted: bool = False
) -> Found:
    tags = {key: value for key, value in {**ALL, **changes}.items() if value is not None}
    return Found(arn="arn:aws:secretsmanager:…:a", tags=tags, key=key, is_deleted=deleted)


@pytest.mark.parametrize(
    ("key", "named"), [(None, "that of Secrets Manager"), ("alias/other", "alias/other")]
)
def test_another_key_is_told_and_stays(key: str | None, named: str) -> None:
    decision = in_aws(ONE, found(key=key), TERMS)
    assert decision.action is Action.NOTHING
    assert named in decision.problems[0]
    assert "adopt.keys" in decision.problems[0]


@pytest.mark.parametrize(
    ("lacking", "set_"),
    [
        ({"team": None}, {"team": "data"}),
        ({"team": "other"}, {"team": "data"}),
        ({SECRET_TAG: None}, {SECRET_TAG: "app_user"}),
        ({"their": "own"}, {}),
    ],
)
def test_a_secret_of_the_stack_gets_the_tags_that_it_lacks(
    lacking: dict[str, str | None], set_: dict[str, str]
) -> None:
    decision = in_aws(ONE, found(lacking), TERMS)
    assert (decision.action, decision.tags) == (Action.TAG if set_ else Action.NOTHING, set_)


def refused(there: Found) -> Decision:
    decision = in_aws(ONE, there, TERMS)
    assert decision.action is Action.REFUSE
    assert decision.problems
    return decision


def test_what_people_made_is_not_taken_without_their_consent() -> None:
    decision = refused(found({STACK_TAG: None, SECRET_TAG: None}))
    assert decision.command == "lockstep secrets tag --stack lockstep --yes"


def test_one_of_another_stack_or_kind_is_refused() -> None:
    assert "'other'" in refused(found({STACK_TAG: "other"})).problems[0]
    assert "'connection_blob'" in refused(found({SECRET_TAG: "connection_blob"})).problems[0]


def test_one_that_is_to_be_deleted_is_refused_with_the_command_that_restores_it() -> None:
    decision = refused(found(deleted=True))
    assert decision.command == "aws secretsmanager restore-secret --secret-id a --region eu-central-1"


# In OCI


def slot(**changes: str) -> FoundSlot:
    given = {"compartment_id": RINGS, "lifecycle": "ACTIVE", "key_id": RING.key_id, **changes}
    return FoundSlot(id="ocid1.vaultsecret.oc1..x", **given)


@pytest.mark.parametrize(
    ("there", "command"),
    [
        (slot(lifecycle="PENDING_DELETION"), "oci vault secret cancel-secret-deletion"),
        (slot(lifecycle="SCHEDULING_DELETION"), "oci vault secret cancel-secret-deletion"),
        (slot(lifecycle="FAILED"), "oci vault secret get"),
        (slot(compartment_id="ocid1.compartment.oc1..own"), "oci vault secret change-compartment"),
    ],
)
def test_a_slot_that_is_elsewhere_or_on_its_way_out_is_refused(there: FoundSlot, command: str) -> None:
    decision = in_oci("a.0", there, RING)
    assert decision.action is Action.REFUSE
    assert decision.command
    assert decision.command.startswith(f"{command} --secret-id {there.id}")


def test_a_slot_with_another_key_is_told_and_stays() -> None:
    decision = in_oci("a.0", slot(key_id="ocid1.key.oc1.eu.other"), RING)
    assert (decision.action, "ocid1.key.oc1.eu.other" in decision.problems[0]) == (Action.NOTHING, True)


# Contents


def test_the_first_content_is_a_placeholder_and_leaves_nothing_to_carry_on() -> None:
    assert decode_app_user(FIRST_TEXT, store="s", secret="a") == (None, 0)
    extras = extras_in(FIRST_TEXT)
    assert extras is not None
    assert not extras


# Settings


def test_settings_are_those_of_cdk_json() -> None:
    context = {"stack": "prod", "tags": {"team": "data"}, "adopt": {"encryption_key": KEY}, "canary": None}
    assert stack_settings({"context": context}) == StackSettings(stack="prod", key=KEY, tags={"team": "data"})
    assert stack_settings({"context": {"tags": {}, "adopt": None}}) == StackSettings()


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "context"),
        ({}, "context"),
        ({"context": {"tags": "team"}}, "tags"),
        ({"context": {"stack": 1}}, "stack"),
    ],
)
def test_another_file_is_refused(document: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        stack_settings(document)


def test_an_output_of_terraform_is_read_with_null_tags() -> None:
    output = {
        "compartment_id": RINGS,
        "vault_id": VAULT,
        "key_id": RING.key_id,
        "freeform_tags": {"lockstep-stack": "lockstep"},
        "defined_tags": None,
    }
    assert ring_terms(output, region="eu-frankfurt-1") == RING
    wrongs: list[object] = [{}, [], {**output, "key_id": None}]
    for wrong in wrongs:
        with pytest.raises(ValueError):  # noqa: PT011 - each names another field
            ring_terms(wrong, region="eu-frankfurt-1")


# Names


def plan_of(*ids: str) -> Plan:
    document = plans.plan_document(
        [plans.database("orders", Engine.MYSQL)],
        [plans.credential(i, "orders", username=i, secrets=plans.own_secrets(i)) for i in ids],
    )
    return parse_plan(json.dumps(document), base=Path())


def test_the_secrets_are_those_of_the_credentials_and_no_others() -> None:
    plan = plan_of("a", "b")
    assert [one.name for one in rotated_in_aws(plan)] == ["a", "a-connection_blob", "b", "b-connection_blob"]
    assert [one.name for one in rotated_in_aws(plan, ("b",))] == ["b", "b-connection_blob"]
