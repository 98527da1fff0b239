"""What an account says of the issuer, the role and the key by which the runners reach the other cloud."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from cdk.account import Account
from cdk.existing import Estate, look
from cdk.sizes import synthesise
from cdk.template import Template
from lockstep.plan.runners import Runners
from sandbox.aws import AwsSandbox
from tests.infrastructure.cdk_case import FEDERATED
from tests.infrastructure.existing_case import OWN, deployment, make_key, refusing

PATH = "objectstorage.eu-frankfurt-1.oraclecloud.com/n/example/b/lockstep-issuer/o"
CLIENT_KEY = "alias/lockstep-oci-client"
AUDIENCE, SUBJECT = "sts.amazonaws.com", "lockstep-oci-runner"


@pytest.fixture(name="aws")
def _aws() -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        aws.client("iam").enable_outbound_web_identity_federation()
        yield aws


@cache
def template() -> Template:
    plain = deployment(plan=FEDERATED)
    with TemporaryDirectory() as folder:
        return synthesise(plain.plan, plain.settings, Path(folder))


def looked_at(aws: AwsSandbox, *, role: str | None = None, key: str | None = None, **adopt: object) -> Estate:
    """What is said of the federated plan, with a role of the sandbox's account."""
    found = deployment(plan=FEDERATED, adopt=adopt)
    runners = found.plan.runners.model_dump(mode="json", exclude_none=True)
    runners["oci"]["federation"]["role_arn"] = role or role_arn(aws)
    if key:
        runners["aws"]["federation"]["client"]["kms_key"] = key
    plan = found.plan.model_copy(update={"runners": Runners.model_validate(runners)})
    return look(replace(found, plan=plan), template(), Account(aws.client, aws.region))


def role_arn(aws: AwsSandbox, name: str = "lockstep-oci-runner") -> str:
    return f"arn:aws:iam::{aws.account_id}:role/{name}"


def make_provider(aws: AwsSandbox, *, tags: list[dict[str, str]], audience: str = AUDIENCE) -> str:
    made = aws.client("iam").create_open_id_connect_provider(
        Url=f"https://{PATH}", ClientIDList=[audience], ThumbprintList=["0" * 40], Tags=tags
    )
    arn: str = made["OpenIDConnectProviderArn"]
    return arn


def trust(aws: AwsSandbox, **wanted: str) -> Mapping[str, Any]:
    """The trust policy of a role of tokens."""
    claims = {"aud": AUDIENCE, "sub": SUBJECT} | wanted
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:aws:iam::{aws.account_id}:oidc-provider/{PATH}"},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": {f"{PATH}:{claim}": value for claim, value in claims.items()}},
            }
        ],
    }


def make_role(aws: AwsSandbox, policy: Mapping[str, Any], name: str = "estate-runner") -> str:
    made = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy))
    arn: str = made["Role"]["Arn"]
    return arn


def test_in_an_empty_account_provider_role_and_key_are_made(aws: AwsSandbox) -> None:
    found = looked_at(aws)
    assert (found.problems, found.notes) == ((), ())
    assert (found.adopt.client_key, found.adopt.oidc_provider, found.adopt.oci_role) == (False, False, False)


def test_an_account_that_issues_no_tokens_is_told_how(aws: AwsSandbox) -> None:
    aws.client("iam").disable_outbound_web_identity_federation()
    found = looked_at(aws)
    (note,) = found.notes
    assert "`aws iam enable-outbound-web-identity-federation`" in note
    assert not found.problems


def test_an_account_that_has_stopped_issuing_tokens_is_told_how(
    aws: AwsSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(account: Account, service: str, operation: str, **arguments: object) -> Any:  # noqa: ANN401 - a reply
        found = ask(account, service, operation, **arguments)
        return {**found, "JwtVendingEnabled": False} if "outbound_web_identity" in operation else found

    ask = Account.ask
    monkeypatch.setattr(Account, "ask", stopped)
    (note,) = looked_at(aws).notes
    assert "`aws iam enable-outbound-web-identity-federation`" in note


def test_whether_it_does_may_stay_unknown(aws: AwsSandbox) -> None:
    with refusing("GetOutboundWebIdentityFederationInfo", code="AccessDenied"):
        found = looked_at(aws)
    (note,) = found.notes
    assert "whether this account issues tokens is not known" in note
    assert not found.problems


def test_a_role_of_another_account_is_refused(aws: AwsSandbox) -> None:
    (problem,) = looked_at(aws, role="arn:aws:iam::999988887777:role/lockstep-oci-runner").problems
    assert problem.startswith("runners.oci.federation.role_arn: ")
    assert f"arn:aws:iam::{aws.account_id}:role/" in problem


def test_a_provider_of_others_for_the_same_issuer_is_adopted_by_a_line(aws: AwsSandbox) -> None:
    make_provider(aws, tags=[{"Key": "lockstep:stack", "Value": "lockstep-two"}])
    (problem,) = looked_at(aws).problems
    assert 'is of the stack lockstep-two: to adopt it, add "oidc_provider": true to adopt' in problem
    found = looked_at(aws, oidc_provider=True)
    assert (found.problems, found.adopt.oidc_provider) == ((), True)


def test_a_provider_of_this_stack_is_taken_back(aws: AwsSandbox) -> None:
    make_provider(aws, tags=OWN)
    found = looked_at(aws)
    assert (found.problems, found.adopt.oidc_provider) == ((), True)


def test_an_adopted_provider_must_take_the_tokens_of_the_plan(aws: AwsSandbox) -> None:
    arn = make_provider(aws, tags=[], audience="another")
    (problem,) = looked_at(aws, oidc_provider=True).problems
    assert f"--open-id-connect-provider-arn {arn} --client-id {AUDIENCE}" in problem


def test_a_provider_that_is_to_be_adopted_must_exist(aws: AwsSandbox) -> None:
    (problem,) = looked_at(aws, oidc_provider=True).problems
    assert "adopt says that it exists, and it does not" in problem


def test_a_role_with_the_name_of_the_stacks_own_is_in_the_way(aws: AwsSandbox) -> None:
    make_role(aws, trust(aws), "lockstep-oci-runner")
    (problem,) = looked_at(aws).problems
    assert "AWS::IAM::Role lockstep-oci-runner exists" in problem
    assert not looked_at(aws, oci_role=True).problems


def test_an_adopted_role_gets_its_policy_from_people(aws: AwsSandbox) -> None:
    arn = make_role(aws, trust(aws))
    found = looked_at(aws, role=arn, oci_role=True)
    assert (found.problems, found.adopt.oci_role) == ((), True)
    (note,) = found.notes
    assert "aws iam attach-role-policy --role-name estate-runner --policy-arn arn:aws:iam::" in note
    iam = aws.client("iam")
    policy = iam.create_policy(
        PolicyName="lockstep-oci-runner",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}],
            }
        ),
    )
    iam.attach_role_policy(RoleName="estate-runner", PolicyArn=policy["Policy"]["Arn"])
    assert not looked_at(aws, role=arn, oci_role=True).notes


@pytest.mark.parametrize("claim", ["aud", "sub"])
def test_an_adopted_role_must_trust_the_tokens_of_the_runner(aws: AwsSandbox, claim: str) -> None:
    arn = make_role(aws, trust(aws, **{claim: "another"}))
    (problem,) = looked_at(aws, role=arn, oci_role=True).problems
    assert "does not trust the tokens of the runner; add {" in problem
    assert json.loads(problem.partition("add ")[2]) == trust(aws)["Statement"][0]


def test_an_adopted_role_may_name_its_provider_in_a_list(aws: AwsSandbox) -> None:
    policy = json.loads(json.dumps(trust(aws)))
    statement = policy["Statement"][0]
    statement["Principal"]["Federated"] = [statement["Principal"]["Federated"]]
    arn = make_role(aws, policy)
    assert not looked_at(aws, role=arn, oci_role=True).problems
    for principal in ("*", {"AWS": "*"}, {**statement["Principal"], "AWS": "*"}):
        statement["Principal"] = principal
        aws.client("iam").update_assume_role_policy(
            RoleName="estate-runner", PolicyDocument=json.dumps(policy)
        )
        (problem,) = looked_at(aws, role=arn, oci_role=True).problems
        assert "does not trust the tokens of the runner" in problem


def test_an_adopted_role_must_exist(aws: AwsSandbox) -> None:
    (problem,) = looked_at(aws, role=role_arn(aws, "nobody"), oci_role=True).problems
    assert "nobody does not exist" in problem


def make_client_key(aws: AwsSandbox, alias: str | None, *, tags: list[dict[str, str]] = OWN) -> str:
    return make_key(aws, alias, tags=tags, KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")


def test_the_key_of_the_client_that_the_stack_made_is_taken_back(
    aws: AwsSandbox,
) -> None:
    make_client_key(aws, CLIENT_KEY)
    found = looked_at(aws)
    assert (found.problems, found.adopt.client_key, found.adopt.mac_key) == ((), True, False)


def test_the_key_of_others_is_adopted_by_a_line(aws: AwsSandbox) -> None:
    make_client_key(aws, CLIENT_KEY, tags=[])
    (problem,) = looked_at(aws).problems
    assert 'add "client_key": true to adopt' in problem
    found = looked_at(aws, client_key=True)
    assert (found.problems, found.adopt.client_key) == ((), True)


def test_the_key_of_the_client_must_sign_by_rsa(aws: AwsSandbox) -> None:
    make_key(aws, CLIENT_KEY, KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    (problem,) = looked_at(aws).problems
    assert "must be RSA_2048 for SIGN_VERIFY" in problem


def test_a_key_of_the_client_that_is_named_by_its_arn_must_be_there_and_fit(aws: AwsSandbox) -> None:
    assert not looked_at(aws, key=make_client_key(aws, None)).problems
    (problem,) = looked_at(
        aws, key=make_key(aws, None, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    ).problems
    assert problem.startswith("runners.aws.federation.client.kms_key: ")
    missing = f"arn:aws:kms:{aws.region}:{aws.account_id}:key/0a1b2c3d-0000-0000-0000-000000000000"
    (problem,) = looked_at(aws, key=missing).problems
    assert "does not exist; give an alias, and the key is made" in problem
