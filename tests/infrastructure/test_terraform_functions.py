"""Each function of the AWS runner has exactly what it does in OCI: enough, each needed, and nothing of the others'."""

import re
from collections.abc import Iterator

import pytest

from lockstep.protocol.errors import LockstepError
from tests.infrastructure.terraform.policies import Statement, statements
from tests.infrastructure.terraform.sessions import FROM_AWS, FUNCTIONS_MAY, ROLES, federated
from tests.infrastructure.terraform.stack import ROOT, Deployment, Stack, needs_tools
from tests.infrastructure.terraform.steps import STEPS
from tests.infrastructure.terraform.world import World, in_compartment, permissions, running_world

pytestmark = needs_tools

Shared = tuple[Stack, Deployment]
CASES = [(step, *case) for step, may in FUNCTIONS_MAY.items() for case in may]


@pytest.fixture(name="shared", scope="module")
def _shared() -> Shared:
    stack = Stack(plan=federated())
    return stack, stack.deploy(**FROM_AWS)


@pytest.fixture(name="policy", scope="module")
def _policy(shared: Shared) -> list[Statement]:
    return statements(shared[1])


@pytest.fixture(name="world")
def _world(shared: Shared) -> Iterator[World]:
    with running_world(*shared) as world:
        yield world


def of_function(step: str, policy: list[Statement]) -> list[Statement]:
    return [s for s in policy if s.about.get("request.principal.name") == ROLES[step]]


def test_a_function_is_named_by_its_role_in_this_domain(policy: list[Statement], shared: Shared) -> None:
    [trust] = shared[1].all("oci_identity_domains_identity_propagation_trust").values()
    for step, role in ROLES.items():
        for statement in of_function(step, policy):
            assert statement.subject == "any-user"
            assert statement.about == {
                "request.principal.type": "identityfederateddomainapp",
                "request.principal.domain.id": trust["domain_ocid"],
                "request.principal.name": role,
            }
    # Whoever else is meant by any-user is refused.
    open_to_all = [s.text for s in policy if s.subject == "any-user" and not s.about]
    assert open_to_all == []


@pytest.mark.parametrize("step", ROLES)
def test_it_has_what_it_does_and_no_more(step: str, policy: list[Statement], shared: Shared) -> None:
    stack, _ = shared
    places = {"rings": stack.store["compartment_id"], "own": stack.store["own_compartment_id"]}
    granted = of_function(step, policy)
    for place, compartment in places.items():
        there = in_compartment(granted, compartment)
        assert permissions(there) == {p for p, where in FUNCTIONS_MAY[step] if where == place}
        assert len(there) <= 1
    for statement in in_compartment(granted, places["own"]):
        assert statement.targets == {"target.bucket.name": {"lockstep-audit-digests"}}


@pytest.mark.parametrize("step", ROLES)
def test_it_can_do_its_work(step: str, policy: list[Statement], world: World) -> None:
    STEPS[step](world, world.permit(step, of_function(step, policy)))


@pytest.mark.parametrize(("step", "permission", "place"), CASES)
def test_it_needs_each_of_its_permissions(
    step: str, permission: str, place: str, policy: list[Statement], world: World
) -> None:
    sandbox = world.sandbox
    compartment = sandbox.compartment_id if place == "rings" else sandbox.own_compartment_id
    clients = world.permit(step, of_function(step, policy), without=(permission, compartment))
    with pytest.raises((LockstepError, AssertionError)):
        STEPS[step](world, clients)


def test_the_documentation_lists_exactly_the_permissions_of_each_function() -> None:
    section = (
        (ROOT / "docs/iam-oci.md")
        .read_text()
        .partition("## Sessions of the AWS runner\n")[2]
        .partition("\n## ")[0]
    )
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    steps = {
        "Generate": "generate",
        "ApplyDb": "apply_db",
        "UpdateSecrets": "update_secrets",
        "Digest": "digest",
    }
    listed: dict[str, set[str]] = {step: set() for step in ROLES}
    for row in rows:
        for name in re.findall(r"[A-Za-z]+", row[3]):
            listed[steps[name]].update(re.findall(r"`([A-Z_]+)`", row[1]))
    assert listed == {step: {p for p, _ in may} for step, may in FUNCTIONS_MAY.items()}
