"""Functions make a session in the other cloud and use it, and say which fact does not hold and what to choose then."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.aws.clients import AwsKeys
from lockstep.databases.findings import Answer, Finding, Outcome
from lockstep.oci.clients import OciIdentity
from lockstep.operate.doctor import inside
from lockstep.operate.doctor import inside as sessions
from lockstep.operate.doctor.inside import (
    DOCUMENTS,
    KEY_SET,
    POLICIES,
    PROOF,
    ROLE,
    TOKEN,
    VAULT,
)
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


def told(found: sessions.Found) -> dict[str, Answer]:
    """The answers by subject."""
    listed = list(found)
    assert {check for check, _ in listed} <= {sessions.SESSION}
    return {answer.subject: answer for _, answer in listed}


def in_oci(world: World) -> dict[str, Answer]:
    clouds = from_aws(world)
    return told(sessions.in_oci(clouds, clouds.plan))


def in_aws(world: World) -> dict[str, Answer]:
    clouds = from_oci(world)
    return told(sessions.in_aws(clouds, clouds.plan))


def outcomes(found: dict[str, Answer]) -> dict[str, Outcome]:
    return {subject: answer.outcome for subject, answer in found.items()}


def test_each_fact_is_told_where_it_holds(world: World) -> None:
    assert outcomes(in_oci(world)) == dict.fromkeys((PROOF, KEY_SET, VAULT, POLICIES), Outcome.PASSED)
    assert outcomes(in_aws(world)) == dict.fromkeys((TOKEN, DOCUMENTS, ROLE), Outcome.PASSED)


def require(found: dict[str, Answer], subject: str, *words: str) -> None:
    """The subject has failed, what comes before it has passed, and the command has these words."""
    answer = found[subject]
    assert answer.outcome is Outcome.FAILED, found
    assert all(word in str(answer.command) for word in words), answer


def test_an_application_that_is_not_taken_may_have_a_secret_instead(world: World) -> None:
    world.oci.domain.apps[federated_world.CLIENT_ID].certificates.clear()
    found = in_oci(world)
    require(found, PROOF, "runners.aws", "client: {secret: NAME}")
    assert found[KEY_SET].outcome is Outcome.NOT_ASKED


def test_a_token_that_is_not_taken_leaves_the_key(world: World) -> None:
    world.oci.domain.trusts[world.aws.sandbox.web_identity.issuer].is_active = False
    found = in_oci(world)
    assert found[PROOF].outcome is Outcome.PASSED
    require(found, KEY_SET, "identity propagation trust", "oci_key_secret instead of federation")


def test_an_account_that_makes_no_tokens(world: World) -> None:
    world.aws.sandbox.web_identity.disable()
    require(in_oci(world), TOKEN, "aws iam enable-outbound-web-identity-federation")


def test_a_service_that_takes_no_session_of_a_resource(world: World) -> None:
    world.oci.faults.refuse(service="vault", status=401, code="NotAuthenticated", times=None)
    found = in_oci(world)
    require(found, VAULT, "token: upst")
    assert found[POLICIES].outcome is Outcome.NOT_ASKED


def test_policies_that_do_not_name_the_principal(world: World) -> None:
    arn = f"arn:aws:iam::{world.aws.sandbox.account_id}:role/{IN_AWS}"
    world.oci.identity.principal(arn, "identityfederateddomainapp").grants.clear()
    found = in_oci(world)
    assert found[VAULT].outcome is Outcome.PASSED
    require(found, POLICIES, "request.principal.name", "token: upst")


def test_a_key_that_does_not_sign(world: World) -> None:
    federation = world.document["runners"]["oci"]["federation"]
    world.oci.keys.key(federation["key"]["id"]).state = "DISABLED"
    found = in_aws(world)
    require(found, TOKEN, "runners.oci", "aws_key_secret instead of federation")
    assert set(found) == {TOKEN}


def test_documents_that_sts_cannot_read(world: World) -> None:
    world.oci.storage.set_public_access(federated_world.BUCKET, "NoPublicAccess")
    found = in_aws(world)
    assert found[TOKEN].outcome is Outcome.PASSED
    require(found, DOCUMENTS, "lockstep identity publish", "aws_key_secret")


def test_a_role_that_does_not_take_the_token(world: World) -> None:
    host = world.document["runners"]["oci"]["federation"]["issuer"].removeprefix("https://")
    arn = f"arn:aws:iam::{world.aws.sandbox.account_id}:oidc-provider/{host}"
    other = federated_world.trusting(arn, f"https://{host}", **{f"{host}:sub": "another"})
    iam = world.aws.client("iam")
    iam.update_assume_role_policy(RoleName=federated_world.ROLE, PolicyDocument=json.dumps(other))
    found = in_aws(world)
    assert found[DOCUMENTS].outcome is Outcome.NOT_ASKED
    require(found, ROLE, "trust policy", "aws_key_secret")


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
    told_by = {f.subject for f in found if f.check == sessions.SESSION and f.outcome is Outcome.FAILED}
    assert told_by == ({TOKEN} if function == "oci/rotate" else {KEY_SET})
    assert not [f for f in found if "UnexpectedError" in f.says or "unexpected" in f.says]
    # What needs the session says why it has no answer.
    others = {f.says for f in found if f.check in {inside.STORES, inside.LOG} and f.outcome is Outcome.FAILED}
    assert others or function in {"aws/apply_db", "oci/rotate"}
