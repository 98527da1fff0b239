"""Which secrets of a plan are to be tagged, and what stands in the way."""

import json
from pathlib import Path
from typing import Any

import pytest

from lockstep.operate.secrets import Found, State, Wanted, judge, wanted
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from sandbox import plans

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
            plans.credential("a", "orders", username="a", secrets=plans.own_secrets("a")),
            plans.credential("b", "orders", "stock", username="b", secrets=plans.own_secrets("b")),
        ],
        oci=plans.OciNames() if oci else None,
    )
    for database in document["databases"]:
        database["oci_admin_secret"] = f"dba.{database['name']}"
    return parse_plan(json.dumps(document), base=Path())


def names(plan: Plan, credential_id: str | None = None) -> dict[str, str]:
    return {one.name: one.kind.value for one in wanted(plan, credential_id)}


def test_every_secret_that_is_known_by_its_tags_is_wanted_once() -> None:
    assert names(plan_of()) == {
        "a": "app_user",
        "a-connection_blob": "connection_blob",
        "b": "app_user",
        "b-connection_blob": "connection_blob",
        "dba/orders": "admin",
        "dba/stock": "admin",
        plans.OCI_KEY_SECRET: "runner-key",
    }
    assert len(wanted(plan_of())) == len(names(plan_of()))


def test_one_credential_needs_its_own_secrets_and_its_databases_admins() -> None:
    assert names(plan_of(oci=False), "a") == {
        "a": "app_user",
        "a-connection_blob": "connection_blob",
        "dba/orders": "admin",
    }


def test_a_shared_admin_is_wanted_once_and_those_that_are_known_by_arn_are_not() -> None:
    assert names(plan_of(oci=False, stock="dba/orders"), "b").keys() == {
        "b",
        "b-connection_blob",
        "dba/orders",
    }
    listed = plan_of(orders=ARN, stock="rds!cluster-1")
    assert SecretKind.ADMIN.value not in names(listed).values()


@pytest.mark.parametrize(
    ("tags", "missing"),
    [
        ({}, TAGS),
        ({"team": "payments"}, TAGS),
        ({STACK_TAG: "lockstep"}, {SECRET_TAG: "app_user"}),
        ({SECRET_TAG: "app_user"}, {STACK_TAG: "lockstep"}),
    ],
)
def test_only_what_is_missing_is_set(tags: dict[str, str], missing: dict[str, str]) -> None:
    found = judge(ONE, Found(arn=ARN, tags=tags), stack="lockstep")
    assert (found.state, found.missing_tags) == (State.TO_TAG, missing)


def test_a_secret_with_both_tags_is_ready() -> None:
    found = judge(
        ONE, Found(arn=ARN, tags={**TAGS, "team": "payments"}, primary_region=ONE.region), stack="lockstep"
    )
    assert (found.state, found.missing_tags, found.problems) == (State.READY, {}, ())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tags": {**TAGS, STACK_TAG: "other"}}, "'other', not 'lockstep'"),
        ({"tags": {**TAGS, SECRET_TAG: "admin"}}, "'admin', not 'app_user'"),
        ({"tags": {SECRET_TAG: "admin"}}, "'admin', not 'app_user'"),
        ({"tags": {**TAGS, STACK_TAG: ""}}, "'', not 'lockstep'"),
        ({"is_deleted": True}, "scheduled for deletion"),
        ({"primary_region": "eu-west-1"}, "replica of a secret in eu-west-1"),
        ({"owning_service": "rds"}, "rds manages it"),
        ({"is_rotated": True}, "rotates it by itself"),
    ],
)
def test_what_would_be_taken_from_others_or_cannot_work_is_in_the_way(
    changes: dict[str, Any], says: str
) -> None:
    found = judge(ONE, Found(**{"arn": ARN, "tags": TAGS, **changes}), stack="lockstep")
    (problem,) = found.problems
    assert (found.state, says in problem) == (State.IN_THE_WAY, True)


def test_an_admin_may_be_rotated_by_others() -> None:
    admin = Wanted(name="a", kind=SecretKind.ADMIN, region="eu-central-1")
    found = judge(admin, Found(arn=ARN, tags=dict(admin.tags("lockstep")), is_rotated=True), stack="lockstep")
    assert found.state is State.READY
