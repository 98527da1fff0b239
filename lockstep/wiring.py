"""The composition root: builds the ports of one rotation from the plan, for one runner.

The only place that knows which adapter serves which port, and as whom. Clients are made once per process and used
again; adapters are imported when they are needed, so that a function loads only what it uses.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lockstep.contents import decode_app_user
from lockstep.errors import AdminCredentialRejectedError, InvalidPlanError, InvalidRequestError
from lockstep.model import Credential, DatabaseServer, Login
from lockstep.plan import Plan
from lockstep.plan_file import load_plan
from lockstep.ports import AuditLog, Database, Ports, Signer, Store
from lockstep.store_kinds import AwsSecretsManager, OciVault, StoreConfig
from lockstep.stores import CredentialStore, Stores
from lockstep.system import SystemClock, SystemPasswords

if TYPE_CHECKING:
    from lockstep.aws.clients import AwsKeys
    from lockstep.oci.clients import OciClients, OciIdentity
    from lockstep.oci.vault import Vault

PLAN_VARIABLE = "LOCKSTEP_PLAN"
"""The environment variable that holds the path of the plan file."""

OCI_ENDPOINT_VARIABLE = "LOCKSTEP_OCI_ENDPOINT"
"""Where OCI is, if not in OCI: the counterpart of AWS_ENDPOINT_URL, which OCI's SDK has no variable for."""


@cache
def plan_from_environment() -> Plan:
    """The plan that this process runs with, read once."""
    return load_plan(Path(os.environ.get(PLAN_VARIABLE, "lockstep.yaml")))


def forget() -> None:
    """Forget plan, clients and identities, so that a changed environment or a new key counts."""
    plan_from_environment.cache_clear()
    _aws_runner.cache_clear()
    _oci_runner.cache_clear()


def aws_ports(credential_id: str) -> Ports:
    """The ports of the AWS runner, from the environment's plan."""
    return _aws_runner().ports(credential_id)


def oci_ports(credential_id: str) -> Ports:
    """The ports of the OCI runner, from the environment's plan."""
    return _oci_runner().ports(credential_id)


def build_aws_ports(plan: Plan, credential_id: str) -> Ports:
    """The ports of the AWS runner, with clients of their own.

    Raises:
        InvalidRequestError: The plan has no such credential.
    """
    return AwsRunner(plan).ports(credential_id)


def build_oci_ports(plan: Plan, credential_id: str) -> Ports:
    """The ports of the OCI runner, with clients of their own.

    Raises:
        InvalidPlanError: The plan has no OCI runner.
        InvalidRequestError: The plan has no such credential.
    """
    return OciRunner(plan).ports(credential_id)


@cache
def _aws_runner() -> "AwsRunner":
    return AwsRunner(plan_from_environment())


@cache
def _oci_runner() -> "OciRunner":
    return OciRunner(plan_from_environment())


class Runner(ABC):
    """Both clouds as one runner reaches them."""

    name: ClassVar[str]

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._aws: dict[tuple[str, str], Any] = {}
        self._oci: dict[str, OciClients] = {}
        self._vaults: dict[str, Vault] = {}

    def ports(self, credential_id: str) -> Ports:
        """The ports of a credential.

        Raises:
            InvalidRequestError: The plan has no such credential.
        """
        from lockstep.aws.dynamodb_lock import DynamoDbLock

        credential = self.plan.credential(credential_id)
        if credential is None:
            raise InvalidRequestError(credential=credential_id)
        table = self.plan.lock
        return Ports(
            runner=self.name,
            credential=credential,
            stores=Stores([self._store(config, credential) for config in self.plan.stores]),
            databases={s.name: self._database(s, credential) for s in credential.servers},
            lock=DynamoDbLock(self.aws("dynamodb", table.region), table.table, credential.id),
            audit_log=self.audit_log(credential),
            signer=self.signer(),
            clock=SystemClock(),
            passwords=SystemPasswords(),
        )

    @abstractmethod
    def audit_log(self, credential: Credential) -> AuditLog:
        """The runner's own stream of a credential."""

    @abstractmethod
    def signer(self) -> Signer:
        """The key of the runner's own stream."""

    @abstractmethod
    def own_secret(self, secret: str) -> str:
        """The text of a secret in the runner's own cloud, by its name in the plan."""

    @abstractmethod
    def aws_keys(self) -> "AwsKeys | None":
        """Who the runner is in AWS; None for what the environment gives."""

    @abstractmethod
    def oci_identity(self) -> "OciIdentity":
        """Who the runner is in OCI."""

    def aws(self, service: str, region: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        """A client of an AWS service."""
        from lockstep.aws.clients import aws_client

        if (service, region) not in self._aws:
            self._aws[service, region] = aws_client(service, region, keys=self.aws_keys())
        return self._aws[service, region]

    def oci(self, region: str) -> "OciClients":
        """The OCI clients of a region."""
        from lockstep.oci.clients import OciClients

        if region not in self._oci:
            endpoint = os.environ.get(OCI_ENDPOINT_VARIABLE)
            self._oci[region] = OciClients(self.oci_identity, region, endpoint=endpoint)
        return self._oci[region]

    def vault(self, config: OciVault) -> "Vault":
        """A vault of the plan."""
        from lockstep.oci.vault import Vault

        if config.name not in self._vaults:
            self._vaults[config.name] = Vault(
                self.oci(config.region),
                compartment_id=config.compartment_id,
                vault_id=config.vault_id,
                store=config.name,
            )
        return self._vaults[config.name]

    def _store(self, config: StoreConfig, credential: Credential) -> Store:
        if isinstance(config, OciVault):
            from lockstep.oci.vault_ring import VaultRing

            open_ring = partial(VaultRing, self.vault(config), slots=config.ring, clock=SystemClock())
            return CredentialStore(config.name, credential, open_ring)
        from lockstep.aws.secrets_manager import SecretsManagerSecret

        open_secret = partial(SecretsManagerSecret, self.aws("secretsmanager", config.region), config.name)
        return CredentialStore(config.name, credential, open_secret)

    def _database(self, server: DatabaseServer, credential: Credential) -> Database:
        from lockstep.databases import open_database

        return open_database(server, credential, self._admin(server))

    def _admin(self, server: DatabaseServer) -> Callable[[], Login]:
        def read() -> Login:
            text = self.own_secret(server.admin_secret)
            login, _ = decode_app_user(text, store=self.name, secret=server.admin_secret)
            if login is None:
                raise AdminCredentialRejectedError(database=server.name)
            return login

        return read


class AwsRunner(Runner):
    """The Lambda functions."""

    name = "aws"

    def audit_log(self, credential: Credential) -> AuditLog:
        """S3."""
        from lockstep.aws.s3_audit import S3AuditLog

        audit = self.plan.audit.aws
        return S3AuditLog(
            self.aws("s3", audit.region), audit.bucket, self.name, credential.id, audit.storage_class
        )

    def signer(self) -> Signer:
        """KMS."""
        from lockstep.aws.kms import KmsSigner

        audit = self.plan.audit.aws
        return KmsSigner(self.aws("kms", audit.region), audit.mac_key)

    def own_secret(self, secret: str) -> str:
        """From Secrets Manager; in the lock's region, where the plan has no store in AWS."""
        from lockstep.aws.secrets_manager import read_secret

        store = self.plan.store(AwsSecretsManager)
        region = store.region if store else self.plan.lock.region
        return read_secret(self.aws("secretsmanager", region), self.name, secret)

    def aws_keys(self) -> None:
        """The environment's: a role."""

    def oci_identity(self) -> "OciIdentity":
        """The API key that the plan names."""
        from lockstep.identity import oci_api_key

        secret = self.plan.runners.aws.oci_key_secret
        if secret is None:
            raise InvalidPlanError
        return oci_api_key(self.own_secret(secret), store=self.name, secret=secret)


class OciRunner(Runner):
    """The OCI function.

    Raises:
        InvalidPlanError: The plan has no OCI runner.
    """

    name = "oci"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        vault = plan.store(OciVault)
        if not (plan.runners.oci and plan.audit.oci and isinstance(vault, OciVault)):
            raise InvalidPlanError
        self._runner, self._audit, self._vault = plan.runners.oci, plan.audit.oci, vault

    def audit_log(self, credential: Credential) -> AuditLog:
        """Object Storage."""
        from lockstep.oci.object_storage_audit import ObjectStorageAuditLog

        return ObjectStorageAuditLog(
            self.oci(self._audit.region),
            namespace=self._audit.namespace,
            bucket=self._audit.bucket,
            stream=self.name,
            credential_id=credential.id,
        )

    def signer(self) -> Signer:
        """A key from Vault."""
        from lockstep.oci.vault_signer import VaultSigner

        return VaultSigner(self.vault(self._vault), self._audit.mac_secret)

    def own_secret(self, secret: str) -> str:
        """From Vault, under its name in the plan with dots for slashes."""
        from lockstep.store_kinds.oci_vault import oci_name

        vault, name = self.vault(self._vault), oci_name(secret)
        return vault.text(name, vault.read_named(name))

    def aws_keys(self) -> "AwsKeys":
        """The access key that the plan names."""
        from lockstep.identity import aws_access_key

        secret = self._runner.aws_key_secret
        return aws_access_key(self.own_secret(secret), store=self.name, secret=secret)

    def oci_identity(self) -> "OciIdentity":
        """The function's resource principal."""
        from lockstep.identity import own_oci_identity

        return own_oci_identity()
