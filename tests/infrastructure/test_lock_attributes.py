"""Who may write which attributes of the lock record, by the synthesised policies and the calls that the code makes."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest

from cdk.deployment import DEFINITION
from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import (
    Claim,
    ClaimKind,
    Lease,
    LockRecord,
    Release,
    SecretStr,
)
from sandbox.emulators.aws.item_access import item_context
from sandbox.emulators.aws.policies import Call
from tests.infrastructure.policy_case import LOCK, ROLES, THIS, allowed, world
from tests.support.memory import EPOCH

CREDENTIAL = "multi-cloud/app_user"
STATE_MACHINE, OCI = "state machine", "OCI runner"
MAY_NAME: dict[str, set[str]] = {
    "head_aws": {STATE_MACHINE},
    "head_oci": {OCI},
    "plan": {"generate", OCI},
    "activate": {"generate", STATE_MACHINE, OCI},
    "highest_generation": {"generate", OCI},
    "format": {"generate", "update_secrets", OCI},
    "pending_generation": {"generate", "update_secrets", STATE_MACHINE, OCI},
    "promoting": {"generate", "update_secrets", STATE_MACHINE, OCI},
    "current_generation": {STATE_MACHINE, OCI},
    "paused": {STATE_MACHINE, OCI},
    "rotated_at": {STATE_MACHINE, OCI},
    "rotated_by": {STATE_MACHINE, OCI},
    "blocked": {"apply_db", STATE_MACHINE, OCI},
    "left_out": {STATE_MACHINE, OCI},
    "owned_by": set(),
    "credential_id ": set(),
    "of_another_product": set(),
}
"""Who may name an attribute in an update or its condition, which IAM does not tell apart."""
LEASE = Lease(credential_id=CREDENTIAL, holder="run-1", fence=7)
CLAIM = Claim(kind=ClaimKind.NEW, generation=7, base_generation=6, rotation_id="run-1")
DONE = Release(
    current_generation=7,
    valid=frozenset({6, 7}),
    proven=("db-1",),
    next_due_at=EPOCH,
    not_before=EPOCH,
    rotated_at=EPOCH,
)


def may_update(role: str, *attributes: str, returns: str = "NONE") -> bool:
    context = {
        "dynamodb:LeadingKeys": (CREDENTIAL,),
        "dynamodb:ReturnValues": (returns,),
        **({"dynamodb:Attributes": attributes} if attributes else {}),
    }
    table = world(THIS).arn_of("AWS::DynamoDB::Table")
    return allowed(role, Call(action="dynamodb:UpdateItem", resource=table, context=context))


@pytest.mark.parametrize("attribute", MAY_NAME)
def test_only_its_writers_may_name_an_attribute(attribute: str) -> None:
    """Protocol E14."""
    assert {r for r in ROLES if may_update(r, "credential_id", attribute)} == MAY_NAME[attribute]


@pytest.mark.parametrize("role", [role for role in ROLES if LOCK[role]])
def test_an_attribute_of_another_beside_its_own_is_refused_too(role: str) -> None:
    for own, other in combinations(MAY_NAME, 2):
        both = role in MAY_NAME[own] and role in MAY_NAME[other]
        assert may_update(role, "credential_id", own, other) is both, (own, other)


@pytest.mark.parametrize("role", ROLES)
def test_a_request_that_names_nothing_does_not_pass_as_one_whose_every_name_is_listed(role: str) -> None:
    assert not may_update(role)


def test_what_may_not_read_the_record_gets_of_it_what_its_own_writes_return() -> None:
    """The state machine its own changes, and UpdateSecrets the record that it has marked (protocol L14)."""
    for returns in ("NONE", "UPDATED_OLD", "UPDATED_NEW", "ALL_OLD", "ALL_NEW"):
        is_own = returns in ("NONE", "UPDATED_NEW")
        assert may_update(STATE_MACHINE, "credential_id", "fence", returns=returns) is is_own
        is_told = returns in ("NONE", "ALL_NEW")
        assert may_update("update_secrets", "credential_id", "promoting", returns=returns) is is_told
        assert may_update("generate", "credential_id", "promoting", returns=returns)


# What the code sends


Operation = Callable[[DynamoDbLock], object]
SEEN = LockRecord(credential_id=CREDENTIAL, plan="of-a-plan", valid=frozenset({5}))
OPEN = LockRecord(credential_id=CREDENTIAL, plan="of-a-plan", claim=CLAIM, revoke_through=5)
PROMOTING = LockRecord(credential_id=CREDENTIAL, activate="of-a-plan", claim=CLAIM, promoting=True)


def acquire(lock: DynamoDbLock, **more: Any) -> object:  # noqa: ANN401 - as of the port
    ends = EPOCH + timedelta(minutes=9)
    return lock.acquire(holder="run-1", now=EPOCH, expires_at=ends, **more)


def claim(over: LockRecord, *served: int) -> Operation:
    return lambda lock: lock.claim(LEASE, CLAIM, over=over, plan="of-a-plan", served=served)


def released(stream: str, done: Release | None) -> Operation:
    return lambda lock: lock.release(LEASE, done, entry=Recorded(stream=stream, seq=3, hash="d" * 64))


CALLS: dict[str, tuple[set[str], list[Operation]]] = {
    "claim": ({"generate", OCI}, [claim(SEEN, 4), claim(OPEN), claim(PROMOTING), claim(OPEN, 3)]),
    "promote": (
        {"update_secrets", OCI},
        [lambda lock: lock.begin_promotion(LEASE, CLAIM, now=EPOCH)],
    ),
    "block": ({"apply_db", STATE_MACHINE, OCI}, [lambda lock: lock.block(LEASE, ["db-1"])]),
    "acquire": (
        {STATE_MACHINE, OCI},
        [lambda lock: acquire(lock, force=True), lambda lock: acquire(lock, force=False, due_by=EPOCH)],
    ),
    "release of what nothing is recorded of": (
        {STATE_MACHINE, OCI},
        [lambda lock: lock.release(LEASE, None)],
    ),
    "release with the head of aws": ({STATE_MACHINE}, [released("aws", None), released("aws", DONE)]),
    "release with the head of oci": ({OCI}, [released("oci", None), released("oci", DONE)]),
}
"""Every write of the lock, by who may make it. IAM cannot tell a write from a condition: a rotation that is done ends a
blocking."""


class CapturedError(Exception):
    """Stands in the place of the answer."""


def requests(operation: Operation) -> dict[str, Any]:
    """What the adapter sends."""
    keys = AwsKeys(access_key_id="AKIA", secret_access_key=SecretStr("a-secret"))
    client = aws_client("dynamodb", "eu-central-1", keys=keys, endpoint="http://127.0.0.1:9")
    sent: list[dict[str, Any]] = []

    def capture(params: dict[str, Any], **_: object) -> None:
        sent.append(json.loads(params["body"]))
        raise CapturedError

    client.meta.events.register("before-call", capture)
    with pytest.raises(CapturedError):
        operation(DynamoDbLock(client, "lockstep", CREDENTIAL))
    (only,) = sent
    return only


def decided(role: str, request: dict[str, Any]) -> bool:
    context = {"dynamodb:LeadingKeys": (CREDENTIAL,), **item_context("UpdateItem", request)}
    table = world(THIS).arn_of("AWS::DynamoDB::Table")
    return allowed(role, Call(action="dynamodb:UpdateItem", resource=table, context=context))


@pytest.mark.parametrize("name", CALLS)
def test_each_write_is_allowed_to_its_writers_and_to_no_other(name: str) -> None:
    may, operations = CALLS[name]
    for operation in operations:
        request = requests(operation)
        assert {role for role in ROLES if decided(role, request)} == may, request


def tasks() -> Iterator[tuple[str, dict[str, Any]]]:
    states = json.loads(DEFINITION.read_text())["States"]
    for name, state in states.items():
        if state.get("Resource") == "arn:aws:states:::dynamodb:updateItem":
            yield name, state["Arguments"]


def test_the_state_machine_may_send_all_its_updates_and_no_other_role_may() -> None:
    """The standby may send each of them with its own head (protocol E14)."""
    found = dict(tasks())
    assert found.keys() == {
        "AcquireLock",
        "ReleaseLock",
        "ReleaseLockAfterFailure",
        "ReleaseLockUnchanged",
        "ReleaseLockUnrecorded",
    }
    for name, arguments in found.items():
        moves = "ExpressionAttributeNames" in arguments
        may = {STATE_MACHINE} if moves else {STATE_MACHINE, OCI}
        assert {role for role in ROLES if decided(role, arguments)} == may, name
        if moves:
            own = {**arguments, "ExpressionAttributeNames": {"#head": "head_oci"}}
            assert {role for role in ROLES if decided(role, own)} == {OCI}, name
