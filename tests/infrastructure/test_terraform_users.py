"""The users of the AWS runner, where it has API keys: one or two, whose keys Terraform does not rotate."""

import json
import shutil
from collections.abc import Iterator

import pytest

from lockstep.errors import LockstepError
from sandbox.identities import READERS_MAY, RUNNERS_MAY, WITNESS_MAY
from tests.infrastructure.terraform import steps, tenancy
from tests.infrastructure.terraform.policies import Statement, statements
from tests.infrastructure.terraform.stack import (
    CONFIGURATION,
    Deployment,
    Document,
    Stack,
    messages,
    needs_tools,
    plan_document,
    succeeded,
)
from tests.infrastructure.terraform.world import (
    World,
    in_compartment,
    of,
    permissions,
    running_world,
    witness,
)

# Each test runs Terraform up to ten times.
pytestmark = [needs_tools, pytest.mark.timeout(1800)]

ONE = {"oci_key_secret": "lockstep/oci-key"}
TWO = {**ONE, "oci_reader_key_secret": "lockstep/oci-reader-key"}
FIRST, NEXT = (f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n" for text in ("AAAA", "BBBB"))
WRITER, READER = "lockstep-aws-runner", "lockstep-aws-reader"


def of_aws(stack: Stack, keys: dict[str, str]) -> None:
    stack.plan["runners"]["aws"] = dict(keys)


@pytest.fixture(name="blank", scope="module")
def _blank(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return Stack.new(tmp_path_factory.mktemp("blank"), plan_document())


@pytest.fixture(name="pair", scope="module")
def _pair(blank: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stack, Deployment]:
    """A stack with a writer and a reader, and what was made."""
    stack = blank.copy(tmp_path_factory.mktemp("pair"))
    of_aws(stack, TWO)
    deployment = stack.apply(aws_runner_public_key=FIRST, aws_reader_public_key=NEXT)
    stack.name_made(deployment.outputs)
    return stack, deployment


@pytest.fixture(name="policy", scope="module")
def _policy(pair: tuple[Stack, Deployment]) -> list[Statement]:
    return statements(*pair)


@pytest.fixture(name="world")
def _world(pair: tuple[Stack, Deployment]) -> Iterator[World]:
    with running_world(*pair) as world:
        yield world


def keys_in(stack: Stack) -> dict[str, Document]:
    """The API keys in the tenancy, by their ids."""
    resources = tenancy.read(stack.tenancy)["resources"]
    return {ocid: r["values"] for ocid, r in resources.items() if r["type"] == "oci_identity_api_key"}


def upload(stack: Stack, user: str, key: str) -> None:
    """Add a key as the command does."""
    document = tenancy.read(stack.tenancy)
    values = {
        "user_id": user,
        "key_value": key,
        "id": f"key-{len(document['resources'])}",
        "fingerprint": key,
    }
    tenancy.Tenancy(document).put("oci_identity_api_key", values["id"], values)
    tenancy.write(stack.tenancy, document)


def delete(stack: Stack, key: str) -> None:
    """Delete a key as the command does."""
    document = tenancy.read(stack.tenancy)
    for ocid, values in keys_in(stack).items():
        if values["key_value"] == key:
            del document["resources"][ocid]
    tenancy.write(stack.tenancy, document)


def changes_nothing(stack: Stack, **variables: object) -> None:
    (planned,) = stack.run(("plan", None), **variables)
    assert planned["code"] == 0, messages([planned])


# ---- one user, or two


def test_one_key_is_for_one_user(fresh: Stack) -> None:
    deployment = fresh.apply()
    assert [u["name"] for u in deployment.all("oci_identity_user").values()] == [WRITER]
    assert "aws_reader" not in deployment.outputs
    granted = of(WRITER, statements(fresh, deployment), deployment)
    assert permissions(granted) == {*RUNNERS_MAY, *WITNESS_MAY}


def test_a_reader_is_a_user_of_its_own(pair: tuple[Stack, Deployment]) -> None:
    _, deployment = pair
    users = {u["id"]: u["name"] for u in deployment.all("oci_identity_user").values()}
    groups = {g["id"]: g["name"] for g in deployment.all("oci_identity_group").values()}
    members = deployment.all("oci_identity_user_group_membership").values()
    assert sorted((users[m["user_id"]], groups[m["group_id"]]) for m in members) == [
        (READER, READER),
        (WRITER, WRITER),
    ]
    for name, output in ((WRITER, "aws_runner"), (READER, "aws_reader")):
        assert users[deployment.outputs[output]["user"]] == name
        assert deployment.outputs[output]["fingerprint"]
    for capabilities in deployment.all("oci_identity_user_capabilities_management").values():
        allowed = [n for n, value in capabilities.items() if n.startswith("can_use_") and value]
        assert allowed == ["can_use_api_keys"]


def test_the_writer_writes_and_the_reader_reads(
    pair: tuple[Stack, Deployment], policy: list[Statement]
) -> None:
    stack, deployment = pair
    rings, own = stack.store["compartment_id"], deployment.outputs["own_compartment_id"]
    writer, reader = (of(name, policy, deployment) for name in (WRITER, READER))
    assert permissions(in_compartment(writer, rings)) == set(RUNNERS_MAY)
    assert in_compartment(writer, own) == []
    assert permissions(in_compartment(reader, rings)) == set(READERS_MAY)
    assert permissions(in_compartment(reader, own)) == set(WITNESS_MAY)


WORK = {WRITER: (steps.generate, steps.update_secrets), READER: (steps.apply_db, steps.audit, witness)}


@pytest.mark.parametrize("user", WORK)
def test_each_user_can_do_its_work(
    user: str, pair: tuple[Stack, Deployment], policy: list[Statement], world: World
) -> None:
    clients = world.permit(user, of(user, policy, pair[1]))
    for step in WORK[user]:
        step(world, clients)


@pytest.mark.parametrize(
    ("user", "permission", "place"),
    [
        *((WRITER, p, "rings") for p in RUNNERS_MAY),
        *((READER, p, "rings") for p in READERS_MAY),
        *((READER, p, "own") for p in WITNESS_MAY),
    ],
)
def test_each_user_needs_each_of_its_permissions(
    user: str,
    permission: str,
    place: str,
    pair: tuple[Stack, Deployment],
    policy: list[Statement],
    world: World,
) -> None:
    sandbox = world.sandbox
    compartment = sandbox.compartment_id if place == "rings" else sandbox.own_compartment_id
    clients = world.permit(user, of(user, policy, pair[1]), without=(permission, compartment))
    refused = 0
    for step in WORK[user]:
        try:
            step(world, clients)
        except (LockstepError, AssertionError):
            refused += 1
    assert refused


@pytest.mark.parametrize("step", [steps.generate, steps.update_secrets])
def test_the_reader_cannot_write(
    step: object, pair: tuple[Stack, Deployment], policy: list[Statement], world: World
) -> None:
    clients = world.permit(READER, of(READER, policy, pair[1]))
    with pytest.raises((LockstepError, AssertionError)):
        step(world, clients)  # type: ignore[operator]  # a step


# ---- keys that the command rotates


def test_terraform_uploads_the_first_key_and_leaves_the_next_ones_alone(fresh: Stack) -> None:
    variables = {"aws_runner_public_key": FIRST}
    user = fresh.apply(**variables).outputs["aws_runner"]["user"]
    changes_nothing(fresh, **variables)
    upload(fresh, user, NEXT)
    # Both are there while the command looks whether the next one works.
    changes_nothing(fresh, **variables)
    delete(fresh, FIRST)
    rotated = keys_in(fresh)
    assert [key["key_value"] for key in rotated.values()] == [NEXT]
    deployment = fresh.apply(**variables)
    assert keys_in(fresh) == rotated
    assert "fingerprint" not in {k for k, v in deployment.outputs["aws_runner"].items() if v}
    changes_nothing(fresh, **variables)
    changes_nothing(fresh)


def test_a_key_that_signs_is_neither_replaced_nor_removed(fresh: Stack) -> None:
    fresh.apply(aws_runner_public_key=FIRST)
    for variables in ({"aws_runner_public_key": NEXT}, {}):
        (refused,) = fresh.run(("plan", None), **variables)
        assert "Instance cannot be destroyed" in " ".join(messages([refused]))
    assert [key["key_value"] for key in keys_in(fresh).values()] == [FIRST]


def test_a_key_that_was_uploaded_by_hand_is_left_alone(fresh: Stack) -> None:
    user = fresh.apply().outputs["aws_runner"]["user"]
    upload(fresh, user, NEXT)
    there = keys_in(fresh)
    changes_nothing(fresh)
    fresh.apply(aws_runner_public_key=FIRST)
    assert keys_in(fresh) == there


def test_it_goes_with_a_trial(fresh: Stack) -> None:
    variables = {"aws_runner_public_key": FIRST}
    fresh.apply(**variables)
    shutil.copyfile(CONFIGURATION / "trial_override.tf.example", fresh.folder / "trial_override.tf")
    succeeded(fresh.run(("destroy", None), **variables))
    assert keys_in(fresh) == {}


def test_a_stack_of_an_earlier_version_keeps_its_user_and_key(fresh: Stack) -> None:
    variables = {"aws_runner_public_key": FIRST}
    before = fresh.apply(**variables).outputs["aws_runner"]
    state = fresh.folder / "terraform.tfstate"
    document = json.loads(state.read_text())
    for resource in document["resources"]:
        if resource["name"] == "aws_runner" and resource["mode"] == "managed":
            [instance] = resource["instances"]
            del instance["index_key"]
            resource.pop("each", None)
            if resource["type"] == "oci_identity_api_key":
                instance["index_key"] = 0
    state.write_text(json.dumps(document))
    there = tenancy.read(fresh.tenancy)["resources"]
    assert fresh.apply(**variables).outputs["aws_runner"] == before
    assert tenancy.read(fresh.tenancy)["resources"].keys() == there.keys()
