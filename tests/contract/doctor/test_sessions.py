"""Functions make a session in the other cloud and use it, and say what to choose where there is none."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lockstep.databases.findings import Finding, Outcome
from lockstep.oci.clients import OciIdentity
from lockstep.operate.access import operator
from lockstep.operate.doctor import inside
from lockstep.operate.doctor.checks import Context, at, examine
from lockstep.operate.doctor.unknowns import confirmed, questions
from lockstep.plan.published import index_of
from lockstep.protocol.deadlines import Timeouts
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.clouds import Clouds, Endpoints
from lockstep.runtime.identity import OCI_RUNNER, Identity
from lockstep.runtime.system import SystemClock
from sandbox.identities import ISSUER_BUCKET, OCI_FUNCTION, Way
from sandbox.plans import TO_OCI as APPLICATION
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


def as_function(world: World, function: str) -> Clouds:
    """A function of either cloud, such as `aws/generate`."""
    if function.startswith("oci/"):
        own = OciIdentity(config=dict(world.identities.function_key))
        identity: Identity = replace(OCI_RUNNER, oci=lambda _reach: own)
    else:
        identity = world.identities.of_functions[function.removeprefix("aws/")]
    endpoints = Endpoints(aws=world.aws.url, oci=world.oci.endpoint)
    return Clouds(world.plan, identity, endpoints=endpoints, timeouts=Timeouts(), clock=SystemClock())


def in_oci(world: World) -> dict[str, Finding]:
    clouds = as_function(world, "aws/generate")
    return {found.subject: found for found in at("aws/generate", inside.session_in_oci(clouds, clouds.plan))}


def in_aws(world: World) -> dict[str, Finding]:
    clouds = as_function(world, "oci/rotate")
    return {found.subject: found for found in at("oci/rotate", inside.session_in_aws(clouds, clouds.plan))}


def test_each_session_is_told_where_it_is_had(world: World) -> None:
    found = {**in_oci(world), **in_aws(world)}
    assert {subject: one.outcome for subject, one in found.items()} == dict.fromkeys(
        (TO_OCI, VAULT, TO_AWS), Outcome.PASSED
    )
    assert answered(world, found) == dict.fromkeys(FROM_SESSIONS, "confirmed")


def answered(world: World, found: Mapping[str, Finding]) -> dict[str, str]:
    """What `--confirm` makes of it, by the name of the question."""
    asked = questions(world.plan, [*found.values()])
    asked = [c for c in asked if c.id.removeprefix("identity.") in FROM_SESSIONS]
    context = Context(plan=world.plan, clouds=operator(world.plan))
    answers = examine(asked, context, side_by_side=one_after_the_other)
    # A reason names who was refused, and is not kept.
    assert "refuted: " not in confirmed({}, answers, context)
    return {one.check.removeprefix("identity."): one.says for one in answers}


def _no_policy(world: World) -> None:
    arn = f"arn:aws:iam::{world.aws.account_id}:role/lockstep-generate"
    world.oci.identity.principal(arn, "identityfederateddomainapp").grants.clear()


def _other_subject(world: World) -> None:
    iam, role = world.aws.client("iam"), "lockstep-oci-runner"
    trust = json.dumps(iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"])
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust.replace(f'"{role}"', '"another"'))


def issuer_key(world: World) -> Any:  # noqa: ANN401 - of the sandbox
    return world.oci.keys.key(world.document["runners"]["oci"]["federation"]["key"]["id"])


BROKEN: dict[str, tuple[Callable[[World], object], str, tuple[str, ...]]] = {
    "the application is unknown": (
        lambda world: world.oci.domain.apps[APPLICATION["client_id"]].certificates.clear(),
        TO_OCI,
        ("runners.aws", "client_secret: NAME"),
    ),
    "the trust is not active": (
        lambda world: setattr(world.oci.domain.trusts[world.aws.web_identity.issuer], "is_active", False),
        TO_OCI,
        ("identity propagation trust", "oci_key_secret instead of federation"),
    ),
    "the account makes no tokens": (
        lambda world: world.aws.web_identity.disable(),
        TO_OCI,
        ("aws iam enable-outbound-web-identity-federation",),
    ),
    "the vault takes no resource sessions": (
        lambda world: world.oci.faults.refuse(
            service="vault", status=401, code="NotAuthenticated", times=None
        ),
        VAULT,
        ("token: upst",),
    ),
    "no policy": (_no_policy, VAULT, ("request.principal.name", "token: upst")),
    "the key is off": (
        lambda world: setattr(issuer_key(world), "state", "DISABLED"),
        TO_AWS,
        ("runners.oci", "aws_key_secret instead of federation"),
    ),
    "the documents are private": (
        lambda world: world.oci.storage.set_public_access(ISSUER_BUCKET, "NoPublicAccess"),
        TO_AWS,
        ("lockstep identity publish", "aws_key_secret"),
    ),
    "the role trusts another subject": (_other_subject, TO_AWS, ("trust policy", "aws_key_secret")),
}


@pytest.mark.parametrize(("act", "subject", "words"), BROKEN.values(), ids=BROKEN)
def test_what_keeps_a_runner_out_of_the_other_cloud_and_what_to_choose_then(
    world: World, act: Callable[[World], object], subject: str, words: tuple[str, ...]
) -> None:
    """The subject has failed, what comes before it has passed, and the command has these words."""
    act(world)
    found = in_aws(world) if subject == TO_AWS else in_oci(world)
    assert [f.subject for f in found.values() if f.outcome is not Outcome.PASSED] == [subject], found
    assert found[subject].outcome is Outcome.FAILED
    assert all(word in str(found[subject].command) for word in words), found[subject]
    refuted = {name for name, says in answered(world, found).items() if says.startswith("refuted: ")}
    assert refuted == {name for name, of in FROM_SESSIONS.items() if of == subject}


# A function as a whole


@pytest.mark.parametrize("function", ["aws/generate", "aws/apply_db", "aws/update_secrets", "oci/rotate"])
def test_a_session_that_cannot_be_had_is_told_and_is_no_bug(world: World, function: str) -> None:
    world.oci.faults.refuse("exchange_token", status=400, code="invalid_grant", times=None)
    world.oci.faults.refuse("sign", status=404, code="NotAuthorizedOrNotFound", times=None)
    clouds = as_function(world, function)
    # No login is shown to a database.
    databases = frozenset(server.name for c in clouds.plan.credentials for server in c.servers)
    index = index_of(clouds.plan)
    found = inside.looked(clouds.plan, index, clouds, function=function, silent=databases).findings
    told_by = {f.subject for f in found if f.check == inside.SESSION and f.outcome is Outcome.FAILED}
    assert told_by == ({TO_AWS} if function == "oci/rotate" else {TO_OCI})
    assert not [f for f in found if "UnexpectedError" in f.says or "unexpected" in f.says]
    # What needs the session says why it has no answer.
    others = {f.says for f in found if f.check == inside.ACCESS and f.outcome is Outcome.FAILED}
    assert others or function in {"aws/apply_db", "oci/rotate"}
