"""What becomes of each secret of a fleet, and how the work goes on after trouble."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lockstep.operate.secrets import (
    FIRST_TEXT,
    POLICY,
    Action,
    Decision,
    RingTerms,
    StackTerms,
    Wanted,
    in_aws,
    ring_terms,
    settled,
    stack_terms,
    wanted,
)
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.errors import StoreThrottledError
from lockstep.protocol.model import Engine
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from lockstep.stores.contents import decode_app_user, extras_in
from sandbox import plans

KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
RINGS, VAULT = "ocid1.compartment.oc1..rings", "ocid1.vault.oc1.eu.aaaa"
RING = RingTerms(
    region="eu-frankfurt-1",
    compartment_id=RINGS,
    vault_id=VAULT,
    key_id="ocid1.key.oc1.eu.key",
    freeform_tags={"lockstep-stack": "lockstep"},
)


# Contents


def test_the_first_content_is_a_placeholder_and_leaves_nothing_to_carry_on() -> None:
    assert decode_app_user(FIRST_TEXT, store="s", secret="a") == (None, 0)
    extras = extras_in(FIRST_TEXT)
    assert extras is not None
    assert not extras


# Settings


def test_settings_are_those_of_cdk_json() -> None:
    context = {"stack": "prod", "tags": {"team": "data"}, "adopt": {"encryption_key": KEY}, "canary": None}
    assert stack_terms({"context": context}) == StackTerms(stack="prod", key=KEY, tags={"team": "data"})
    assert stack_terms({"context": {"tags": {}, "adopt": None}}) == StackTerms()


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "object"),
        ({}, "context"),
        ({"context": {"tags": "team"}}, "tags"),
        ({"context": {"stack": 1}}, "stack"),
    ],
)
def test_another_file_is_refused(document: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        stack_terms(document)


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


# How a service that throttles is met


@dataclass
class Place:
    """Secrets in memory, of a service that throttles so many calls before it takes one."""

    throttles: int = 0
    there: set[str] = field(default_factory=set)

    def decide(self, name: str) -> Decision:
        return Decision(name=name, action=Action.NOTHING if name in self.there else Action.MAKE)

    def make(self, decision: Decision) -> bool:
        if self.throttles:
            self.throttles -= 1
            raise StoreThrottledError
        is_new = decision.name not in self.there
        self.there.add(decision.name)
        return is_new

    def tag(self, decision: Decision) -> None:
        raise NotImplementedError

    def taken(self, name: str) -> Decision:
        raise NotImplementedError


def test_a_call_that_is_throttled_is_made_again_and_again() -> None:
    slept = list[float]()
    place = Place(throttles=POLICY.attempts)
    assert settled(place, place.decide("a"), slept.append).is_done
    assert slept == [1, 2, 4, 8, 16]
    place.throttles = POLICY.attempts + 1
    with pytest.raises(StoreThrottledError):
        settled(place, place.decide("b"), slept.append)


def test_one_that_another_has_made_meanwhile_is_there() -> None:
    place = Place()
    decided = place.decide("a")
    place.there.add("a")
    found = settled(place, decided, lambda _: None)
    assert (found.action, found.is_done) == (Action.NOTHING, False)


# Secrets that are there


ARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:dba/else-AbCdEf"
TAGS = {STACK_TAG: "lockstep", SECRET_TAG: "app_user"}
ONE = Wanted(name="a", kind=SecretKind.APP_USER, region="eu-central-1")


def plan_of(*, oci: bool = True, **admins: str) -> Plan:
    """A plan of two credentials; the second one is on both databases."""
    document = plans.plan_document(
        [
            plans.database(name, Engine.MYSQL, admin_secret=secret)
            for name, secret in ({"orders": "dba/orders", "stock": "dba/stock"} | admins).items()
        ],
        [
            plans.credential("a", "orders", username="a"),
            plans.credential("b", "orders", "stock", username="b"),
        ],
        oci=plans.OciNames() if oci else None,
    )
    for database in document["databases"]:
        database["oci_admin_secret"] = f"dba.{database['name']}"
    return parse_plan(json.dumps(document), base=Path())


def names(plan: Plan) -> dict[str, str]:
    return {one.name: one.kind.value for one in wanted(plan)}


def test_every_secret_that_is_known_by_its_tags_is_wanted_once() -> None:
    assert names(plan_of()) == {
        "a": "app_user",
        "a.connection": "connection_blob",
        "b": "app_user",
        "b.connection": "connection_blob",
        "dba/orders": "admin",
        "dba/stock": "admin",
        plans.OCI_KEY_SECRET: "runner-key",
    }
    assert len(wanted(plan_of())) == len(names(plan_of()))


@pytest.mark.parametrize(
    ("tags", "changes", "says"),
    [
        ({**TAGS, STACK_TAG: "other"}, {}, "'other', not 'lockstep'"),
        ({**TAGS, SECRET_TAG: "admin"}, {}, "'admin', not 'app_user'"),
        ({SECRET_TAG: "admin"}, {}, "'admin', not 'app_user'"),
        ({**TAGS, STACK_TAG: ""}, {}, "'', not 'lockstep'"),
        (TAGS, {"DeletedDate": datetime(2026, 1, 1, tzinfo=UTC)}, "scheduled for deletion"),
        (TAGS, {"PrimaryRegion": "eu-west-1"}, "replica of a secret in eu-west-1"),
        (TAGS, {"OwningService": "rds"}, "rds manages it"),
        (TAGS, {"RotationEnabled": True}, "rotates it by itself"),
    ],
)
def test_what_would_be_taken_from_others_or_cannot_work_is_in_the_way(
    tags: dict[str, str], changes: dict[str, Any], says: str
) -> None:
    """Whether it is to be made or tagged."""
    found = {"ARN": ARN, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()], **changes}
    for consent in (False, True):
        decided = in_aws(ONE, found, StackTerms(key=KEY), consent=consent)
        (problem,) = decided.problems
        assert (decided.action, says in problem) == (Action.REFUSE, True)
