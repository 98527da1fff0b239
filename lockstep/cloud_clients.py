"""The clients of both clouds as one identity has them, and the secrets that it reads by name.

Clients are made when they are first needed, and used again; an SDK is imported when it is needed, so that a function
loads only what it uses.
"""

from functools import cached_property, partial
from threading import RLock
from typing import TYPE_CHECKING, Any

from lockstep.compiled import AnyPlan, AwsStore, VaultStore
from lockstep.errors import InvalidPlanError
from lockstep.identity import Cloud, Identity
from lockstep.ports import Clock
from lockstep.scope import BeforeSend, always
from lockstep.store_kinds.oci_names import oci_name
from lockstep.timeouts import Timeouts
from lockstep.workers import SideBySide, at_the_same_time

if TYPE_CHECKING:
    from lockstep.aws.clients import Keys
    from lockstep.clouds import Endpoints
    from lockstep.oci.clients import OciClients
    from lockstep.oci.vault import Vault


class CloudClients:
    """The clients with which one identity reaches what a plan names.

    Args:
        plan: The plan.
        identity: Who reaches it.
        endpoints: Where the clouds are.
        timeouts: Bounds of every wait.
        clock: The time that every port goes by.
        before_send: Called before each request, connect and statement (protocol F11).
        side_by_side: Runs what does not depend on each other.
    """

    def __init__(
        self,
        plan: AnyPlan,
        identity: Identity,
        *,
        endpoints: "Endpoints",
        timeouts: Timeouts,
        clock: Clock,
        before_send: BeforeSend = always,
        side_by_side: SideBySide = at_the_same_time,
    ) -> None:
        self.plan = plan.compiled
        self._identity = identity
        self.endpoints = endpoints
        self.timeouts = timeouts
        self.clock = clock
        self.side_by_side = side_by_side
        self.before_send = before_send
        # Workers ask at the same time, and an SDK makes one client at a time.
        self._making = RLock()
        self._aws: dict[tuple[str, str], Any] = {}
        self._oci: dict[str, OciClients] = {}
        self._vaults: dict[tuple[str, str], Vault] = {}
        self.kept: dict[str, Any] = {}

    def aws(self, service: str, region: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        """A client of an AWS service."""
        from lockstep.aws.clients import aws_client

        with self._making:
            if (service, region) not in self._aws:
                self._aws[service, region] = aws_client(
                    service,
                    region,
                    keys=self._keys,
                    endpoint=self.endpoints.aws,
                    timeouts=self.timeouts.cloud,
                    before_send=self.before_send,
                )
            return self._aws[service, region]

    def sign_in(self, cloud: Cloud) -> None:
        """Have the session that signs requests to a cloud now, and not only with the next request. A key needs none.

        Raises:
            SessionFailure, LockstepError: There is none.
        """
        if cloud == "aws":
            with self._making:
                keys = self._keys
            if callable(keys):
                keys()
            return
        from lockstep.oci.sessions import SessionSigner

        with self._making:
            signer = self._identity.oci(self).signer
        if isinstance(signer, SessionSigner):
            signer.renew()

    @cached_property
    def _keys(self) -> "Keys | None":
        return self._identity.aws(self)

    def oci(self, region: str) -> "OciClients":
        """The OCI clients of a region."""
        from lockstep.oci.clients import OciClients

        with self._making:
            if region not in self._oci:
                self._oci[region] = OciClients(
                    partial(self._identity.oci, self),
                    region,
                    endpoint=self.endpoints.oci,
                    timeouts=self.timeouts.cloud,
                    before_send=self.before_send,
                )
            return self._oci[region]

    def vault(self, config: VaultStore) -> "Vault":
        """A vault of the plan, with the rings' compartment."""
        return self._vault(config, config.compartment_id)

    def _vault(self, config: VaultStore, compartment_id: str) -> "Vault":
        from lockstep.oci.vault import Vault

        with self._making:
            if (config.name, compartment_id) not in self._vaults:
                self._vaults[config.name, compartment_id] = Vault(
                    self.oci(config.region),
                    compartment_id=compartment_id,
                    vault_id=config.vault_id,
                    store=config.name,
                )
            return self._vaults[config.name, compartment_id]

    def secret(self, name: str) -> str:
        """The text of a secret in the identity's home, by its name in the plan; in AWS also by an ARN.

        Raises:
            InvalidPlanError: The home is OCI and the plan has no store there.
        """
        if self._identity.home == "oci":
            vault, secret = self._own_vault(), oci_name(name)
            return vault.text(secret, vault.read_named(secret))
        from lockstep.aws.secrets_manager import read_secret

        return read_secret(self.aws("secretsmanager", self.plan.region_of(name)), "aws", name)

    def secret_in(self, store: str, name: str) -> str:
        """The text of a secret in a store of the plan, by its name there.

        Raises:
            InvalidPlanError: The plan has no such store.
        """
        from lockstep.aws.secrets_manager import read_secret

        config = next((c for c in self.plan.stores if c.name == store), None)
        match config:
            case VaultStore():
                vault = self.vault(config)
                return vault.text(name, vault.read_named(name))
            case AwsStore():
                return read_secret(self.aws("secretsmanager", config.region), store, name)
        raise InvalidPlanError

    def _own_vault(self) -> "Vault":
        """The vault, with the compartment of the secrets that Lockstep only reads."""
        config = self._vault_config()
        return self._vault(config, config.compartment_of_own_secrets)

    def _vault_config(self) -> VaultStore:
        config = self.plan.vault
        if config is None:
            raise InvalidPlanError
        return config
