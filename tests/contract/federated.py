"""Both clouds, in which each trusts the workloads of the other one, and Lockstep's own clients."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from jwt.algorithms import RSAAlgorithm
from msgspec import structs

from lockstep.aws.clients import AwsKeys
from lockstep.plan.compiled import ClientSecret, CompiledPlan, FederationToAws, FederationToOci
from lockstep.protocol.deadlines import Timeouts
from lockstep.protocol.federation import IssuerKey
from lockstep.protocol.model import SecretStr
from lockstep.runtime.clouds import Clouds, Endpoints
from lockstep.runtime.identity import AWS_RUNNER, OCI_RUNNER, Identity
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.keys import KeyVersion
from sandbox.oci_resources import create_issuer_bucket
from tests.support.memory import make_plan

CLIENT_ID, CLIENT_SECRET = "lockstep_client", "a-secret-of-the-application"
SECRET_NAME = "lockstep/client"
GENERATE, AUDIT = "lockstep-generate", "lockstep-audit"
STANDBY = "lockstep-oci-runner"
OCI_FUNCTION = "lockstep-function"
SUBJECT, AUDIENCE = "lockstep-oci-runner", "sts.amazonaws.com"


@dataclass
class Clock:
    """The machine's time, which a test can set."""

    ahead: timedelta = timedelta()
    passed: float = 0.0

    def __hash__(self) -> int:
        return id(self)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return datetime.now(UTC).timestamp() + self.passed

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


@dataclass
class Federated:
    """What is set up in both clouds.

    Attributes:
        clock: Of the processes that `clouds` opens.
        timeouts: Of the same.
        to_oci: The plan's way to OCI.
        to_aws: The plan's way to AWS.
    """

    aws: AwsSandbox
    oci: OciSandbox
    clock: Clock = field(default_factory=Clock)
    timeouts: Timeouts = field(default_factory=Timeouts)

    def __post_init__(self) -> None:
        self.aws.web_identity.enable()
        self.app = self.oci.domain.new_app(CLIENT_ID, secret=CLIENT_SECRET)
        self.trust = self.oci.domain.new_trust(issuer=self.aws.web_identity.issuer, clients={CLIENT_ID})
        self.aws.client("secretsmanager").create_secret(Name=SECRET_NAME, SecretString=CLIENT_SECRET)
        may = _allow("sts:GetWebIdentityToken", "secretsmanager:GetSecretValue")
        for role in (GENERATE, AUDIT):
            self._role(role, _trusts_lambda(), may)
        self.issuer = create_issuer_bucket(self.oci, "issuer")
        self.key = self.oci.keys.new_key(self.oci.own_compartment_id, self.oci.vault_id, name="issuer")
        self.publish()
        iam = self.aws.client("iam")
        provider = iam.create_open_id_connect_provider(Url=self.issuer, ClientIDList=[AUDIENCE])
        self.provider_arn = provider["OpenIDConnectProviderArn"]
        self._role(STANDBY, self.trusts_issuer(), _allow("dynamodb:*", "s3:*"))
        self.aws.client("dynamodb").create_table(
            TableName="lockstep",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.oci.identity.permit(OCI_FUNCTION, "KEY_SIGN", resource=self.key.ocid)
        self.oci.identity.permit(self.arn(GENERATE), "SECRET_INSPECT", compartment=self.oci.compartment_id)
        self.to_oci = FederationToOci(
            domain_url="https://idcs-sandbox.identity.oraclecloud.com",
            audience="lockstep",
            client_id=CLIENT_ID,
            client=ClientSecret(secret=SECRET_NAME),
            token="rpst",
            resource_type="lockstep",
        )
        self.to_aws = FederationToAws(
            issuer=self.issuer,
            audience=AUDIENCE,
            subject=SUBJECT,
            key=IssuerKey(
                id=self.key.ocid,
                version=self.key.current.ocid,
                endpoint="https://sandbox-crypto.kms.eu-frankfurt-1.oraclecloud.com",
            ),
            role_arn=self.arn(STANDBY),
        )

    def pass_(self, seconds: float) -> None:
        """Let time pass everywhere."""
        self.clock.passed += seconds
        self.oci.identity_clock.advance(timedelta(seconds=seconds))
        self.aws.guard.wall_clock = lambda: time.time() + self.clock.passed

    def arn(self, role: str) -> str:
        return f"arn:aws:iam::{self.aws.account_id}:role/{role}"

    def plan(self, **changed: object) -> CompiledPlan:
        return structs.replace(
            make_plan().compiled, **{"to_oci": self.to_oci, "to_aws": self.to_aws, **changed}
        )

    def from_aws(self, role: str = GENERATE, **plan: object) -> Clouds:
        """A process of a function in AWS."""
        key = f"ASIA{role.upper()}"
        self.aws.guard.know(key, role)
        keys = AwsKeys(access_key_id=key, secret_access_key=SecretStr("sandbox"))
        return self._clouds(Identity(home="aws", aws=lambda _reach: keys, oci=AWS_RUNNER.oci), **plan)

    def from_oci(self, **plan: object) -> Clouds:
        """A process of the function in OCI."""
        from lockstep.oci.clients import OciIdentity  # noqa: PLC0415 - as the product imports it

        config = self.oci.new_api_key(OCI_FUNCTION)
        identity = Identity(home="oci", aws=OCI_RUNNER.aws, oci=lambda _reach: OciIdentity(config=config))
        return self._clouds(identity, **plan)

    def _clouds(self, identity: Identity, **plan: object) -> Clouds:
        endpoints = Endpoints(aws=self.aws.url, oci=self.oci.endpoint)
        return Clouds(
            self.plan(**plan), identity, endpoints=endpoints, timeouts=self.timeouts, clock=self.clock
        )

    def publish(self, *versions: str) -> None:
        """Write the issuer's documents, with these versions of the key; by default all."""
        keys = [
            {
                **RSAAlgorithm.to_jwk(version.public_key, as_dict=True),
                "kid": version.ocid,
                "use": "sig",
                "alg": "RS256",
            }
            for version in self.key.versions
            if not versions or version.ocid in versions
        ]
        self.write("jwks.json", json.dumps({"keys": keys}))
        told = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks.json"}
        self.write(".well-known/openid-configuration", json.dumps(told))

    def new_version(self) -> KeyVersion:
        """Make the key's next version, as its administrator does."""
        administrator: Any = self.oci.client(oci.key_management.KmsManagementClient)
        administrator.create_key_version(self.key.ocid)
        return self.key.versions[-1]

    def write(self, name: str, text: str) -> None:
        """Write one of the issuer's documents."""
        storage: Any = self.oci.client(oci.object_storage.ObjectStorageClient)
        storage.put_object(self.oci.namespace, "issuer", name, text.encode())

    def trusts_issuer(self, **conditions: str) -> Mapping[str, Any]:
        """The role's trust policy."""
        host = self.issuer.removeprefix("https://")
        said = {f"{host}:aud": AUDIENCE, f"{host}:sub": SUBJECT, **conditions}
        principal = {"Federated": self.provider_arn}
        action = "sts:AssumeRoleWithWebIdentity"
        return _policy(Effect="Allow", Principal=principal, Action=action, Condition={"StringEquals": said})

    def _role(self, name: str, trust: Mapping[str, Any], policy: Mapping[str, Any]) -> None:
        iam = self.aws.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(policy))


def _policy(**statement: object) -> Mapping[str, Any]:
    return {"Version": "2012-10-17", "Statement": [statement]}


def _allow(*actions: str) -> Mapping[str, Any]:
    return _policy(Effect="Allow", Action=list(actions), Resource="*")


def _trusts_lambda() -> Mapping[str, Any]:
    return _policy(Effect="Allow", Principal={"Service": "lambda.amazonaws.com"}, Action="sts:AssumeRole")
