"""A stack that changes over from keys to sessions and back, with the real CDK CLI."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from cdk.bundle import Bundle
from sandbox import plans
from tests.infrastructure.life_cycle import Account, Estate, bootstrapped

KEYS: Mapping[str, Mapping[str, object]] = {
    "aws": {"oci_key_secret": plans.OCI_KEY_SECRET},
    "oci": {"aws_key_secret": plans.AWS_KEY_SECRET},
}
USER = "of-the-access-key"


@pytest.fixture(name="account")
def _account(tmp_path: Path) -> Iterator[Account]:
    with bootstrapped(tmp_path) as account:
        yield account


@pytest.fixture(name="empty")
def _empty(tmp_path: Path) -> Path:
    """A package without code: no function is run."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        archive.writestr("empty", "")
    bundle = Bundle(
        runner="aws", python="3.13", architecture="x86_64", unpacked_bytes=0, zip_bytes=0, oci=True
    )
    (folder / "bundle.json").write_text(json.dumps(asdict(bundle)))
    return folder


def sessions(estate: Estate) -> Estate:
    """The same estate, whose plan names sessions in both directions."""
    role = f"arn:aws:iam::{estate.account.aws.account_id}:role/{estate.stack}-oci-runner"
    client = {"kms_key": f"alias/{estate.stack}-oci-client", "certificate": "lockstep"}
    return replace(
        estate,
        runners={
            "aws": {"federation": {**plans.TO_OCI, "client": client}},
            "oci": {"federation": {**plans.TO_AWS, "role_arn": role}},
        },
    )


def outputs(estate: Estate) -> dict[str, str]:
    found = estate.account.aws.client("cloudformation").describe_stacks(StackName=estate.stack)
    return {o["OutputKey"]: o["OutputValue"] for o in found["Stacks"][0]["Outputs"]}


def test_it_keeps_its_roles_and_the_user_of_the_key_keeps_the_policy(account: Account, empty: Path) -> None:
    with_keys = replace(account.estate("change"), runners=KEYS)
    with_sessions = sessions(with_keys)
    iam, kms = account.aws.client("iam"), account.aws.client("kms")
    with_keys.deploy(bundle=empty)
    before = outputs(with_keys)
    policy = before["OciRunnerPolicyArn"]
    iam.create_user(UserName=USER)
    iam.attach_user_policy(UserName=USER, PolicyArn=policy)

    with_sessions.deploy(bundle=empty)
    after = outputs(with_sessions)
    assert with_sessions.status() == "UPDATE_COMPLETE"
    assert (after["OciPrincipals"], after["OciRunnerPolicyArn"]) == (before["OciPrincipals"], policy)
    roles = json.loads(after["OciPrincipals"])
    assert roles.keys() == {"generate", "apply_db", "update_secrets", "audit"}
    for arn in roles.values():
        assert iam.get_role(RoleName=arn.rpartition("/")[2])["Role"]["Arn"] == arn
    entities = iam.list_entities_for_policy(PolicyArn=policy)
    assert [r["RoleName"] for r in entities["PolicyRoles"]] == [f"{with_keys.stack}-oci-runner"]
    assert [u["UserName"] for u in entities["PolicyUsers"]] == [USER]
    (provider,) = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    key = kms.describe_key(KeyId=f"alias/{with_keys.stack}-oci-client")["KeyMetadata"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("RSA_2048", "SIGN_VERIFY")

    with_keys.deploy(bundle=empty)
    assert with_keys.status() == "UPDATE_COMPLETE"
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider["Arn"])
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.get_role(RoleName=f"{with_keys.stack}-oci-runner")
    # Its certificate is in OCI: a plan that changes over again takes it back.
    assert kms.describe_key(KeyId=f"alias/{with_keys.stack}-oci-client")["KeyMetadata"]["Arn"] == key["Arn"]
    assert [u["UserName"] for u in iam.list_entities_for_policy(PolicyArn=policy)["PolicyUsers"]] == [USER]
