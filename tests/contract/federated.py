"""Both clouds, in which each trusts the workloads of the other one, and Lockstep's own clients."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from msgspec import structs

from lockstep.aws.clients import AwsKeys
from lockstep.oci.clients import OciIdentity
from lockstep.plan.compiled import ClientSecret, FederationToAws, FederationToOci
from lockstep.plan.published import WholePlan
from lockstep.protocol.deadlines import Timeouts
from lockstep.protocol.federation import CONFIGURATION, KEYS, IssuerKey, configuration, key_set, public_key
from lockstep.protocol.model import SecretStr
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import AWS_RUNNER, OCI_RUNNER, Identity
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.identity import pem_of
from sandbox.emulators.oci.keys import KeyVersion
from sandbox.identities import endless, make_role
from sandbox.oci_resources import create_issuer_bucket
from tests.support.memory import make_plan

CLIENT_ID, CLIENT_SECRET = "lockstep_client", "a-secret-of-the-application"
SECRET_NAME = "lockstep/client"
GENERATE = "lockstep-generate"
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
        may = [{"Action": ["sts:GetWebIdentityToken", "secretsmanager:GetSecretValue"]}]
        trust = {"Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        generate = make_role(self.aws, GENERATE, trust=trust, may=may)
        self.issuer = create_issuer_bucket(self.oci, "issuer")
        self.key = self.oci.keys.new_key(self.oci.own_compartment_id, self.oci.vault_id, name="issuer")
        self.publish()
        iam = self.aws.client("iam")
        provider = iam.create_open_id_connect_provider(Url=self.issuer, ClientIDList=[AUDIENCE])
        self.provider_arn = provider["OpenIDConnectProviderArn"]
        self.standby = make_role(
            self.aws, STANDBY, trust=self.trusts_issuer(), may=[{"Action": "dynamodb:*"}]
        )
        create_lock_table(self.aws.client("dynamodb"), "lockstep")
        self.oci.identity.permit(OCI_FUNCTION, "KEY_SIGN", resource=self.key.ocid)
        self.oci.identity.permit(generate, "SECRET_INSPECT", compartment=self.oci.compartment_id)
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
            role_arn=self.standby,
        )

    def pass_(self, seconds: float) -> None:
        """Let time pass everywhere."""
        self.clock.passed += seconds
        self.oci.identity_clock.advance(timedelta(seconds=seconds))
        self.aws.guard.wall_clock = lambda: time.time() + self.clock.passed

    def from_aws(self) -> Clouds:
        """A process of a function in AWS."""
        self.aws.guard.know("ASIAGENERATE", GENERATE)
        keys = AwsKeys(access_key_id="ASIAGENERATE", secret_access_key=SecretStr("sandbox"))
        sessions = endless(keys)
        return self._clouds(Identity(home="aws", aws=lambda _reach: sessions, oci=AWS_RUNNER.oci))

    def from_oci(self, **plan: object) -> Clouds:
        """A process of the function in OCI."""
        config = self.oci.new_api_key(OCI_FUNCTION)
        identity = Identity(home="oci", aws=OCI_RUNNER.aws, oci=lambda _reach: OciIdentity(config=config))
        return self._clouds(identity, **plan)

    def _clouds(self, identity: Identity, **plan: object) -> Clouds:
        named = structs.replace(make_plan().compiled, to_oci=self.to_oci, to_aws=self.to_aws)
        return Clouds(
            WholePlan(structs.replace(named, **plan)),
            identity,
            timeouts=self.timeouts,
            clock=self.clock,
        )

    def publish(self, *versions: str) -> None:
        """Write the issuer's documents, with these versions of the key; by default all."""
        shown = {v.ocid: pem_of(v.public_key) for v in self.key.versions}
        keys = [public_key(kid, pem) for kid, pem in shown.items() if not versions or kid in versions]
        storage: Any = self.oci.client(oci.object_storage.ObjectStorageClient)
        for name, text in ((KEYS, key_set(keys)), (CONFIGURATION, configuration(self.issuer))):
            storage.put_object(self.oci.namespace, "issuer", name, text)

    def new_version(self) -> KeyVersion:
        """Make the key's next version, as its administrator does."""
        administrator: Any = self.oci.client(oci.key_management.KmsManagementClient)
        administrator.create_key_version(self.key.ocid)
        return self.key.versions[-1]

    def trusts_issuer(self, **conditions: str) -> dict[str, Any]:
        """The statement of the role's trust policy."""
        host = self.issuer.removeprefix("https://")
        said = {f"{host}:aud": AUDIENCE, f"{host}:sub": SUBJECT, **conditions}
        return {
            "Principal": {"Federated": self.provider_arn},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": said},
        }
