"""Functions make a session in the other cloud and use it, and say what to choose where there is none."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.aws.clients import AwsKeys
from lockstep.databases.findings import Finding, Outcome
from lockstep.oci.clients import OciIdentity
from lockstep.operate.doctor import inside
from lockstep.plan.published import index_of
from lockstep.protocol.deadlines import Timeouts
from lockstep.protocol.model import SecretStr
from lockstep.runtime.clouds import Clouds, Endpoints
from lockstep.runtime.identity import AWS_RUNNER, OCI_RUNNER
from lockstep.runtime.system import SystemClock
from tests.contract.doctor import federated_world
from tests.contract.doctor.world import World, running_world

FUNCTION = "lockstep-function"
IN_AWS = "lockstep-step"
READS = ("SECRET_INSPECT", "SECRET_READ", "SECRET_VERSION_INSPECT", "SECRET_BUNDLE_READ")


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path, federated=True) as world:
        iam = world.aws.client("iam")
        role = iam.create_role(
            RoleName=IN_AWS, AssumeRolePolicyDocument=_policy("sts:AssumeRole", lambda_=True)
        )
        may = _policy("sts:GetWebIdentityToken", "kms:Sign", "secretsmanager:GetSecretValue")
        iam.put_role_policy(RoleName=IN_AWS, PolicyName="own", PolicyDocument=may)
        arn = role["Role"]["Arn"]
        world.oci.identity.permit(arn, *READS, compartment=world.oci.compartment_id)
        world.oci.identity.permit(
            arn, "OBJECT_INSPECT", "OBJECT_READ", compartment=world.oci.own_compartment_id
        )
        world.oci.identity.permit(FUNCTION, "KEY_SIGN", compartment=world.oci.own_compartment_id)
        yield world


def _policy(*actions: str, lambda_: bool = False) -> str:
    principal = {"Principal": {"Service": "lambda.amazonaws.com"}} if lambda_ else {"Resource": "*"}
    statement = {"Effect": "Allow", "Action": list(actions), **principal}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def from_aws(world: World) -> Clouds:
    """A function of AWS."""
    sandbox = world.aws.sandbox
    sandbox.guard.know("ASIASTEP", IN_AWS)
    keys = AwsKeys(access_key_id="ASIASTEP", secret_access_key=SecretStr("sandbox"))
    return _clouds(world, replace(AWS_RUNNER, aws=lambda _reach: keys))


def from_oci(world: World) -> Clouds:
    """The function of OCI."""
    own = OciIdentity(config=world.oci.new_api_key(FUNCTION))
    return _clouds(world, replace(OCI_RUNNER, oci=lambda _reach: own))


def _clouds(world: World, identity: object) -> Clouds:
    endpoints = Endpoints(aws=world.aws.sandbox.url, oci=world.oci.endpoint)
    return Clouds(world.plan, identity, endpoints=endpoints, timeouts=Timeouts(), clock=SystemClock())  # type: ignore[arg-type]


TO_OCI, TO_AWS, VAULT = "session in OCI", "session in AWS", "Vault"


def in_oci(world: World) -> dict[str, Finding]:
    clouds = from_aws(world)
    return {found.subject: found for found in inside.session_in_oci(clouds, clouds.plan)}


def in_aws(world: World) -> dict[str, Finding]:
    clouds = from_oci(world)
    return {found.subject: found for found in inside.session_in_aws(clouds, clouds.plan)}


def test_each_session_is_told_where_it_is_had(world: World) -> None:
    found = {**in_oci(world), **in_aws(world)}
    assert {subject: one.outcome for subject, one in found.items()} == dict.fromkeys(
        (TO_OCI, VAULT, TO_AWS), Outcome.PASSED
    )


def _unknown_application(world: World) -> None:
    world.oci.domain.apps[federated_world.CLIENT_ID].certificates.clear()


def _no_trust(world: World) -> None:
    world.oci.domain.trusts[world.aws.sandbox.web_identity.issuer].is_active = False


def _no_tokens(world: World) -> None:
    world.aws.sandbox.web_identity.disable()


def _no_resource_sessions(world: World) -> None:
    world.oci.faults.refuse(service="vault", status=401, code="NotAuthenticated", times=None)


def _no_policy(world: World) -> None:
    arn = f"arn:aws:iam::{world.aws.sandbox.account_id}:role/{IN_AWS}"
    world.oci.identity.principal(arn, "identityfederateddomainapp").grants.clear()


@pytest.mark.parametrize(
    ("act", "subject", "words"),
    [
        (_unknown_application, TO_OCI, ("runners.aws", "client_secret: NAME")),
        (_no_trust, TO_OCI, ("identity propagation trust", "oci_key_secret instead of federation")),
        (_no_tokens, TO_OCI, ("aws iam enable-outbound-web-identity-federation",)),
        (_no_resource_sessions, VAULT, ("token: upst",)),
        (_no_policy, VAULT, ("request.principal.name", "token: upst")),
    ],
)
def test_what_keeps_aws_out_of_oci_and_what_to_choose_then(
    world: World, act: Callable[[World], None], subject: str, words: tuple[str, ...]
) -> None:
    act(world)
    require(in_oci(world), subject, words)


def require(found: dict[str, Finding], subject: str, words: tuple[str, ...]) -> None:
    """The subject has failed, what comes before it has passed, and the command has these words."""
    assert [f.subject for f in found.values() if f.outcome is not Outcome.PASSED] == [subject], found
    assert found[subject].outcome is Outcome.FAILED
    assert all(word in str(found[subject].command) for word in words), found[subject]


def _key_off(world: World) -> None:
    federation = world.document["runners"]["oci"]["federation"]
    world.oci.keys.key(federation["key"]["id"]).state = "DISABLED"


def _private_documents(world: World) -> None:
    world.oci.storage.set_public_access(federated_world.BUCKET, "NoPublicAccess")


def _other_subject(world: World) -> None:
    host = world.document["runners"]["oci"]["federation"]["issuer"].removeprefix("https://")
    arn = f"arn:aws:iam::{world.aws.sandbox.account_id}:oidc-provider/{host}"
    other = federated_world.trusting(arn, f"https://{host}", **{f"{host}:sub": "another"})
    iam = world.aws.client("iam")
    iam.update_assume_role_policy(RoleName=federated_world.ROLE, PolicyDocument=json.dumps(other))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (_key_off, ("runners.oci", "aws_key_secret instead of federation")),
        (_private_documents, ("lockstep identity publish", "aws_key_secret")),
        (_other_subject, ("trust policy", "aws_key_secret")),
    ],
)
def test_what_keeps_oci_out_of_aws_and_what_to_choose_then(
    world: World, act: Callable[[World], None], words: tuple[str, ...]
) -> None:
    act(world)
    require(in_aws(world), TO_AWS, words)


# A function as a whole


def looks(world: World, function: str) -> list[Finding]:
    """All that a function finds. No login is shown to a database."""
    clouds = from_oci(world) if function.startswith("oci/") else from_aws(world)
    databases = frozenset(server.name for c in clouds.plan.credentials for server in c.servers)
    index = index_of(clouds.plan)
    return list(inside.looked(clouds.plan, index, clouds, function=function, silent=databases).findings)


@pytest.mark.parametrize("function", ["aws/generate", "aws/apply_db", "aws/update_secrets", "oci/rotate"])
def test_a_session_that_cannot_be_had_is_told_and_is_no_bug(world: World, function: str) -> None:
    world.oci.faults.refuse("exchange_token", status=400, code="invalid_grant", times=None)
    world.oci.faults.refuse("sign", status=404, code="NotAuthorizedOrNotFound", times=None)
    found = looks(world, function)
    told_by = {f.subject for f in found if f.check == inside.SESSION and f.outcome is Outcome.FAILED}
    assert told_by == ({TO_AWS} if function == "oci/rotate" else {TO_OCI})
    assert not [f for f in found if "UnexpectedError" in f.says or "unexpected" in f.says]
    # What needs the session says why it has no answer.
    others = {f.says for f in found if f.check == inside.ACCESS and f.outcome is Outcome.FAILED}
    assert others or function in {"aws/apply_db", "oci/rotate"}
