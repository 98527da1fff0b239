"""Functions make a session in the other cloud and use it, and say what keeps them out.

The errors of both directions: tests/contract/test_federation.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.databases.findings import Finding, Outcome
from lockstep.oci.clients import OciIdentity
from lockstep.operate.access import operator
from lockstep.operate.doctor import inside
from lockstep.operate.doctor.checks import Context, examine
from lockstep.operate.doctor.in_cloud import every_database
from lockstep.operate.doctor.unknowns import confirmed, questions
from lockstep.plan.published import WholePlan, index_of
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import OCI_RUNNER, Identity
from sandbox.identities import ISSUER_BUCKET, OCI_FUNCTION, Way
from tests.contract.doctor.world import World, running_world

TO_OCI, TO_AWS, VAULT = "session in OCI", "session in AWS", "Vault"
FROM_SESSIONS = {"assertion": TO_OCI, "keys-of-aws": TO_OCI, "resource-session": VAULT, "issuer": TO_AWS}
"""The questions of `--confirm` that the sessions of these two functions answer."""


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path, Way.ASSERTION) as world:
        world.oci.identity.permit(
            OCI_FUNCTION, "OBJECT_INSPECT", "OBJECT_READ", compartment=world.oci.own_compartment_id
        )
        yield world


def look(world: World, function: str) -> list[Finding]:
    """What a function finds, which shows no login to a database."""
    if function.startswith("oci/"):
        own = OciIdentity(config=dict(world.identities.function_key))
        identity: Identity = replace(OCI_RUNNER, oci=lambda _reach: own)
    else:
        identity = world.identities.of_functions[function.removeprefix("aws/")]
    clouds = Clouds(WholePlan(world.plan.compiled), identity)
    index, silent = index_of(clouds.plan), every_database(world.plan)
    return [*inside.looked(clouds.plan, index, clouds, function=function, silent=silent).findings]


def answered(world: World, found: list[Finding]) -> dict[str, str]:
    """What `--confirm` makes of it, by the name of the question."""
    asked = questions(world.plan, found)
    asked = [c for c in asked if c.id.removeprefix("identity.") in FROM_SESSIONS]
    context = Context(plan=world.plan, clouds=operator(world.plan))
    answers = examine(asked, context)
    # A reason names who was refused, and is not kept.
    assert "refuted: " not in confirmed({}, answers, context)
    return {one.check.removeprefix("identity."): one.says.partition(":")[0] for one in answers}


BROKEN: dict[str, tuple[Callable[[World], object], str, str]] = {
    "nothing": (lambda world: world, "", ""),
    "the trust is not active": (
        lambda world: setattr(world.oci.domain.trusts[world.aws.web_identity.issuer], "is_active", False),
        TO_OCI,
        "identity propagation trust",
    ),
    "the vault takes no resource sessions": (
        lambda world: world.oci.faults.refuse(
            service="vault", status=401, code="NotAuthenticated", times=None
        ),
        VAULT,
        "docs/identity.md#choices",
    ),
    "the documents are private": (
        lambda world: world.oci.storage.set_public_access(ISSUER_BUCKET, "NoPublicAccess"),
        TO_AWS,
        "lockstep identity publish",
    ),
}


@pytest.mark.parametrize(("act", "subject", "word"), BROKEN.values(), ids=BROKEN)
def test_what_keeps_a_runner_out_of_the_other_cloud_is_told_with_what_to_do(
    world: World, act: Callable[[World], object], subject: str, word: str
) -> None:
    """The subject has failed, what comes before it has passed, and the command has this word."""
    act(world)
    found = [*look(world, "aws/generate"), *look(world, "oci/rotate")]
    failed = [f for f in found if f.outcome is Outcome.FAILED]
    assert {f.subject for f in failed if f.check == inside.SESSION} == {subject} - {""}
    assert all(word in str(f.command) for f in failed if f.check == inside.SESSION), failed
    # What needs the session says why it has no answer, and nothing is a bug.
    assert not subject or [f for f in failed if f.check == inside.ACCESS]
    assert not [f for f in found if "unexpected" in f.says.lower()]
    refuted = {name: "refuted" for name, of in FROM_SESSIONS.items() if of == subject}
    unasked = {"resource-session": "inside.session says nothing of it from aws/generate"}
    unknown = unasked if subject == TO_OCI else {}
    assert answered(world, found) == {**dict.fromkeys(FROM_SESSIONS, "confirmed"), **unknown, **refuted}
