"""The users of the AWS runner, where it has API keys: one or two, whose keys Terraform does not rotate."""

import pytest

from sandbox.identities import DIGEST_READER_MAY, READERS_MAY, RUNNERS_MAY
from tests.infrastructure.terraform.policies import Statement, statements
from tests.infrastructure.terraform.stack import Deployment, Stack, needs_tools, plan_document
from tests.infrastructure.terraform.world import in_compartment, of, permissions

pytestmark = needs_tools

ONE = {"oci_key_secret": "lockstep/oci-key"}
TWO = {**ONE, "oci_reader_key_secret": "lockstep/oci-reader-key"}
FIRST, NEXT = (f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n" for text in ("AAAA", "BBBB"))
WRITER, READER = "lockstep-aws-runner", "lockstep-aws-reader"


def of_aws(stack: Stack, keys: dict[str, str]) -> None:
    stack.plan["runners"]["aws"] = dict(keys)


@pytest.fixture(name="pair", scope="module")
def _pair() -> tuple[Stack, Deployment]:
    """A stack with a writer and a reader, and what it comes to."""
    stack = Stack(plan=plan_document())
    of_aws(stack, TWO)
    deployment = stack.apply(aws_runner_public_key=FIRST, aws_reader_public_key=NEXT)
    stack.name_made(deployment.outputs)
    return stack, deployment


@pytest.fixture(name="fresh")
def _fresh() -> Stack:
    """One for a test that changes it."""
    return Stack(plan=plan_document())


@pytest.fixture(name="policy", scope="module")
def _policy(pair: tuple[Stack, Deployment]) -> list[Statement]:
    return statements(pair[1])


# ---- one user, or two


def test_one_key_is_for_one_user(fresh: Stack) -> None:
    deployment = fresh.apply()
    assert [u["name"] for u in deployment.all("oci_identity_user").values()] == [WRITER]
    assert "aws_reader" not in deployment.outputs
    granted = of(WRITER, statements(deployment), deployment)
    assert permissions(granted) == {*RUNNERS_MAY, *DIGEST_READER_MAY}


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
    assert permissions(in_compartment(reader, own)) == set(DIGEST_READER_MAY)
    assert permissions(in_compartment(reader, rings)) == set(READERS_MAY)


# ---- keys that the command rotates


@pytest.mark.parametrize(
    ("there", "is_uploaded"), [([], True), ([FIRST], True), ([FIRST, NEXT], True), ([NEXT], False)]
)
def test_terraform_uploads_the_first_key_and_leaves_the_next_ones_alone(
    there: list[str], fresh: Stack, *, is_uploaded: bool
) -> None:
    """It keeps the key while it is there, beside the next one too, and does not bring it back."""
    fresh.there["oci_identity_users.aws_runner"] = {"users": [{"id": "user", "state": "ACTIVE"}]}
    fresh.there["oci_identity_api_keys.aws_runner"] = {"api_keys": [{"key_value": key} for key in there]}
    deployment = fresh.apply(aws_runner_public_key=FIRST)
    keys = [key["key_value"] for key in deployment.all("oci_identity_api_key").values()]
    assert keys == ([FIRST] if is_uploaded else [])
    assert bool(deployment.outputs["aws_runner"]["fingerprint"]) is is_uploaded
    assert not fresh.apply().all("oci_identity_api_key")
