"""Makes the digests of both clouds' audit logs, each as the function that does so there and by the stores' clock."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from lockstep.aws.kms import KmsDigestKey
from lockstep.oci.clients import OciIdentity
from lockstep.oci.kms import VaultDigestKey
from lockstep.plan.model import Plan
from lockstep.plan.published import WholePlan
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import Runner
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.clock import SandboxClock
from sandbox.emulators.oci.identity import pem_of
from sandbox.identities import DIGEST, Identities, make_digest_key
from sandbox.plans import OCI_REGION


class StoresClock(SystemClock):
    """The machine's clock, but for the time of day, which is that of the sandbox's stores."""

    def __init__(self, stores: SandboxClock) -> None:
        self._stores = stores

    def now(self) -> datetime:
        """The wall clock of the stores."""
        return self._stores.now()

    def timestamp(self) -> float:
        """The same in seconds since the epoch."""
        return self.now().timestamp()


@dataclass(frozen=True, kw_only=True)
class DigestKeys:
    """The keys that sign digests.

    Attributes:
        arn: Of AWS.
        ocid: Of OCI.
        public: What a plan has of each, by cloud.
    """

    arn: str
    ocid: str
    public: Mapping[str, str]


def make_digest_keys(aws: AwsSandbox, oci: OciSandbox, arn: str) -> DigestKeys:
    """Make the key in OCI beside the one in AWS."""
    key = make_digest_key(oci)
    in_aws = KmsDigestKey(aws.client("kms"), arn).public_key()
    return DigestKeys(arn=arn, ocid=key.ocid, public={"aws": in_aws, "oci": pem_of(key.current.public_key)})


@dataclass(frozen=True, kw_only=True)
class DigestFunctions:
    """The functions that make digests, run in this process."""

    plan: Plan
    identities: Identities
    keys: DigestKeys
    clock: StoresClock

    def make(self, cloud: str) -> None:
        """Make a cloud's digest of this hour, if there is none."""
        in_oci = replace(OCI_RUNNER, oci=lambda _reach: OciIdentity(config=self.identities.digest_key))
        identity = self.identities.of_functions[DIGEST] if cloud == "aws" else in_oci
        Runner(WholePlan(self.plan.compiled), identity, clock=self.clock).maker(
            partial(self._key, cloud)
        ).make()

    def _key(self, cloud: str, clouds: Clouds) -> KmsDigestKey | VaultDigestKey:
        if cloud == "aws":
            return KmsDigestKey(clouds.aws("kms", self.plan.lock.region), self.keys.arn)
        return VaultDigestKey(clouds.oci(OCI_REGION), self.keys.ocid, elsewhere=clouds.oci_endpoint)
