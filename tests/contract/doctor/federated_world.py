"""What sessions need in both clouds, as the stack, Terraform and `lockstep identity publish` leave it."""

import json
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from cryptography.hazmat.primitives.serialization import load_der_public_key

from lockstep.protocol.federation import CONFIGURATION, KEYS, PublicKey, configuration, key_set
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.keys import Key, KeyVersion
from sandbox.oci_resources import create_issuer_bucket, create_signing_key

BUCKET, ROLE, CLIENT_KEY = "lockstep-issuer", "lockstep-oci-runner", "alias/lockstep-oci-client"
CLIENT_ID, CERTIFICATE = "lockstep_client", "lockstep"
AUDIENCE, SUBJECT = "sts.amazonaws.com", "lockstep-oci-runner"
ENDPOINT = "https://sandbox-crypto.kms.eu-frankfurt-1.oraclecloud.com"


def fill(aws: AwsSandbox, tenancy: OciSandbox) -> plans.Document:
    """Make everything; the section `runners` of the plan."""
    aws.web_identity.enable()
    kms = aws.client("kms")
    key_id = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=CLIENT_KEY, TargetKeyId=key_id)
    public_key: Any = load_der_public_key(kms.get_public_key(KeyId=key_id)["PublicKey"])
    tenancy.domain.new_app(CLIENT_ID, certificates={CERTIFICATE: public_key})
    tenancy.domain.new_trust(issuer=aws.web_identity.issuer, clients={CLIENT_ID})
    issuer, key = create_issuer_bucket(tenancy, BUCKET), create_signing_key(tenancy)
    publish(tenancy, issuer, key)
    iam = aws.client("iam")
    provider = iam.create_open_id_connect_provider(Url=issuer, ClientIDList=[AUDIENCE])
    arn = provider["OpenIDConnectProviderArn"]
    role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trusting(arn, issuer)))
    return {
        "aws": {
            "federation": {
                "domain_url": tenancy.domain.url,
                "client_id": CLIENT_ID,
                "kms_key": CLIENT_KEY,
                "certificate": CERTIFICATE,
            }
        },
        "oci": {
            "federation": {
                "issuer": issuer,
                "key": {"id": key.ocid, "version": key.current.ocid, "endpoint": ENDPOINT},
                "role_arn": role["Role"]["Arn"],
            }
        },
    }


def trusting(provider_arn: str, issuer: str, **conditions: str) -> dict[str, Any]:
    """The trust policy of the role, with further conditions, or others."""
    host = issuer.removeprefix("https://")
    wanted = {f"{host}:aud": AUDIENCE, f"{host}:sub": SUBJECT, **conditions}
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": provider_arn},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": wanted},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def publish(tenancy: OciSandbox, issuer: str, key: Key) -> None:
    """Write both documents, with every version of the key."""
    write(tenancy, KEYS, key_set([published(version) for version in key.versions]))
    write(tenancy, CONFIGURATION, configuration(issuer))


def published(version: KeyVersion) -> PublicKey:
    """A version as the key set has it."""
    numbers = version.public_key.public_numbers()
    return PublicKey(kid=version.ocid, modulus=numbers.n, exponent=numbers.e)


def write(tenancy: OciSandbox, name: str, content: bytes) -> None:
    """Write an object into the issuer's bucket, as whoever may."""
    storage: Any = tenancy.client(oci.object_storage.ObjectStorageClient)
    storage.put_object(tenancy.namespace, BUCKET, name, content)
