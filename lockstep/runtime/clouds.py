"""Both clouds as one identity reaches them.

The only place that knows which adapter serves which port. Adapters are imported when they are needed, so that a
function loads only what it uses.
"""

import os
from collections.abc import Callable, Iterator
from functools import cached_property, partial, wraps
from threading import RLock
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from lockstep.plan.compiled import AwsStore, CompiledPlan, Store, VaultStore, region_of_secret, required
from lockstep.plan.published import PlanBucket, PlanInBucket, PlanSource, folder_of
from lockstep.protocol.deadlines import CloudTimeouts, DatabaseTimeouts, DeadlineGuard, Timeouts, always
from lockstep.protocol.errors import (
    AdminCredentialRejectedError,
    TlsVerificationError,
)
from lockstep.protocol.model import (
    AdminCredential,
    AdminIam,
    AdminSecret,
    Credential,
    DatabaseServer,
    Engine,
    Login,
)
from lockstep.protocol.names import VersionNames, digest_bucket_name, oci_name
from lockstep.protocol.ports import (
    AuditLog,
    Clock,
    EntryFolder,
    EntryLog,
    Lock,
    Signer,
    chain_folder,
)
from lockstep.protocol.workers import SideBySide, at_the_same_time
from lockstep.runtime.identity import Cloud, Identity, oci_endpoint
from lockstep.runtime.system import SystemClock
from lockstep.stores.contents import decode_app_user
from lockstep.stores.credential import CredentialStore, Stores

if TYPE_CHECKING:
    from lockstep.audit.append import Chain
    from lockstep.audit.digest import Evidence
    from lockstep.aws.clients import Keys
    from lockstep.aws.secrets_manager import SecretsManagerSecret
    from lockstep.databases.base import ServerDatabase
    from lockstep.databases.inspect import Inspector
    from lockstep.databases.sessions import NotCountable, SessionList
    from lockstep.oci.clients import OciClients
    from lockstep.oci.ring import VaultRing
    from lockstep.oci.vault import Vault
    from lockstep.protocol.events import Sink
    from lockstep.protocol.orders import Orders
    from lockstep.protocol.ports import EditableSecret, Table


EVENT_TIMEOUTS = CloudTimeouts(connect_seconds=1.0, read_seconds=2.0)
"""Of the calls that send events: somebody waits for what comes after them, and nobody for the events."""

MadeT = TypeVar("MadeT")
ArgumentsT = ParamSpec("ArgumentsT")


def _once(
    make: "Callable[Concatenate[Clouds, ArgumentsT], MadeT]",
) -> "Callable[Concatenate[Clouds, ArgumentsT], MadeT]":
    """What a method gives is made once for its arguments.

    Workers ask at the same time, and an SDK makes one client at a time.
    """

    @wraps(make)
    def made(clouds: "Clouds", /, *arguments: ArgumentsT.args, **more: ArgumentsT.kwargs) -> MadeT:
        key = make.__name__, arguments, *more.items()
        with clouds.making:
            if key not in clouds.kept:
                clouds.kept[key] = make(clouds, *arguments, **more)
            found: MadeT = clouds.kept[key]
            return found

    return made


def open_secret(config: Store, clouds: "Clouds", names: VersionNames) -> "SecretsManagerSecret | VaultRing":
    """One secret of a store, through the adapter of the store's kind."""
    match config:
        case AwsStore():
            from lockstep.aws.secrets_manager import SecretsManagerSecret

            return SecretsManagerSecret(clouds.aws("secretsmanager", config.region), config.name, names)
        case VaultStore():
            from lockstep.oci.ring import VaultRing
            from lockstep.protocol.ring import slots_at

            return VaultRing(
                clouds.vault(config, config.compartment_id),
                names,
                slots=slots_at(clouds.plan.stores.index(config)),
                clock=clouds.clock,
                side_by_side=clouds.side_by_side,
            )


def open_database(
    server: DatabaseServer,
    credential: Credential,
    admin: Callable[[], Login],
    *,
    timeouts: DatabaseTimeouts = DatabaseTimeouts(),  # noqa: B008 - it cannot change
    deadline_guard: DeadlineGuard = always,
) -> "ServerDatabase[Any]":
    """A server, or one of its verify hosts, for one credential; connects to nothing yet.

    Args:
        server: The server, with its CA file resolved.
        credential: Whose logins it changes, and by which strategy; the plan has checked that the engine allows it.
        admin: Fetches the rotation user's login, as it is now; nothing is kept.
        timeouts: Bounds of every wait.
        deadline_guard: Called before each connect and each statement (protocol F11).

    Raises:
        TlsVerificationError: The CA file cannot be read.
    """
    reached = partial(
        driver_of(server.engine),
        credential=credential,
        admin=admin,
        timeouts=timeouts,
        random_bytes=os.urandom,
        deadline_guard=deadline_guard,
    )
    return reached(server, replicas=tuple(map(reached, server.copies)))


def driver_of(engine: Engine) -> "type[ServerDatabase[Any]]":
    """How a server of an engine is reached. A runner loads only the drivers that its plan needs."""
    match engine:
        case Engine.MYSQL:
            from lockstep.databases.mysql import MySqlDatabase

            return MySqlDatabase
        case Engine.MARIADB:
            from lockstep.databases.mariadb import MariaDbDatabase

            return MariaDbDatabase
        case Engine.POSTGRESQL:
            from lockstep.databases.postgresql import PostgreSqlDatabase

            return PostgreSqlDatabase


def inspector_of(engine: Engine) -> "type[Inspector[Any]]":
    """How a server of an engine is looked at."""
    if engine is Engine.POSTGRESQL:
        from lockstep.databases.inspect_postgresql import PostgreSqlInspector

        return PostgreSqlInspector
    from lockstep.databases.inspect_mysql import MariaDbInspector, MySqlInspector

    return MySqlInspector if engine is Engine.MYSQL else MariaDbInspector


class Clouds:
    """What a plan names in both clouds, opened as one identity, with the secrets that it reads by name.

    Clients are made when they are first needed, and used again; an SDK is imported when it is needed, so that a
    function loads only what it uses.

    Args:
        source: The plan. What belongs to a credential is read from it when it is needed.
        identity: Who reaches it.
        timeouts: Bounds of every wait.
        clock: The time that every port goes by.
        deadline_guard: Called before each request, connect and statement (protocol F11).
        side_by_side: Runs what does not depend on each other.
    """

    def __init__(
        self,
        source: PlanSource,
        identity: Identity,
        *,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - it cannot change
        clock: Clock = SystemClock(),  # noqa: B008 - it cannot change
        deadline_guard: DeadlineGuard = always,
        side_by_side: SideBySide = at_the_same_time,
    ) -> None:
        self.source = source
        self._identity = identity
        self.home = identity.home
        self.oci_endpoint = oci_endpoint()
        self.timeouts = timeouts
        self.clock = clock
        self.side_by_side = side_by_side
        self.deadline_guard = deadline_guard
        self.making = RLock()
        self.kept: dict[object, Any] = {}

    @cached_property
    def plan(self) -> CompiledPlan:
        """What does not belong to a credential; with the credentials where the source is a whole plan.

        Raises:
            LockstepError: As `PlanSource.plan`.
        """
        return self.source.plan

    @_once
    def aws(self, service: str, region: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        """A client of an AWS service."""
        from lockstep.aws.clients import aws_client

        return aws_client(
            service,
            region,
            keys=self._keys(),
            timeouts=self.timeouts.cloud,
            deadline_guard=self.deadline_guard,
        )

    def sign_in(self, cloud: Cloud) -> None:
        """Have the session that signs requests to a cloud now, and not only with the next request. A key needs none.

        Raises:
            SessionFailure, LockstepError: There is none.
        """
        if cloud == "aws":
            if callable(keys := self._keys()):
                keys()
            return
        from lockstep.oci.clients import SessionSigner

        with self.making:
            signer = self._identity.oci(self).signer
        if isinstance(signer, SessionSigner):
            signer.renew()

    @_once
    def _keys(self) -> "Keys | None":
        return self._identity.aws(self)

    @_once
    def oci(self, region: str) -> "OciClients":
        """The OCI clients of a region."""
        from lockstep.oci.clients import OciClients

        return OciClients(
            partial(self._identity.oci, self),
            region,
            endpoint=self.oci_endpoint,
            timeouts=self.timeouts.cloud,
            deadline_guard=self.deadline_guard,
        )

    @_once
    def vault(self, config: VaultStore, compartment_id: str) -> "Vault":
        """A vault of the plan, with one of its compartments."""
        from lockstep.oci.vault import Vault

        return Vault(
            self.oci(config.region),
            compartment_id=compartment_id,
            vault_id=config.vault_id,
            store=config.name,
        )

    def secret(self, name: str) -> str:
        """The text of a secret in the identity's home, by its name in the plan; in AWS also by an ARN.

        Raises:
            InvalidPlanError: The home is OCI and the plan has no store there.
        """
        if self.home == "oci":
            vault, secret = self._own_vault(), oci_name(name)
            return vault.text(secret, vault.read_named(secret))
        from lockstep.aws.secrets_manager import read_secret

        return read_secret(
            self.aws("secretsmanager", region_of_secret(name, self.plan.secrets_region)), "aws", name
        )

    def secret_in(self, store: str, name: str) -> str:
        """The text of a secret in a store of the plan, by its name there."""
        from lockstep.aws.secrets_manager import read_secret

        config = next(c for c in self.plan.stores if c.name == store)
        if isinstance(config, AwsStore):
            return read_secret(self.aws("secretsmanager", config.region), store, name)
        vault = self.vault(config, config.compartment_id)
        return vault.text(name, vault.read_named(name))

    def _own_vault(self) -> "Vault":
        """The vault, with the compartment of the secrets that Lockstep only reads."""
        config = required(self.plan.vault)
        return self.vault(config, config.compartment_of_own_secrets)

    def lock(self, credential: Credential) -> Lock:
        """A credential's lock record."""
        from lockstep.aws.dynamodb_lock import DynamoDbLock

        table = self.plan.lock
        return DynamoDbLock(self.aws("dynamodb", table.region), table.table, credential.id)

    def lock_table(self) -> "Table":
        """Every lock record.

        Raises:
            LockTableUnreachableError, LockTableAccessDeniedError: As `lockstep.aws.dynamodb_lock.read_table`.
        """
        from lockstep.aws.dynamodb_lock import read_table

        table = self.plan.lock
        return read_table(self.aws("dynamodb", table.region), table.table)

    def orders(self, credential: Credential) -> "Orders":
        """What an operator may change in the lock table."""
        from lockstep.aws.dynamodb_orders import DynamoDbOrders

        table = self.plan.lock
        return DynamoDbOrders(self.aws("dynamodb", table.region), table.table, credential.id)

    def chain(self, cloud: Cloud, credential: Credential) -> "Chain":
        """A credential's audit chain in a cloud, to append to."""
        from lockstep.audit.append import Chain

        return Chain(
            credential_id=credential.id,
            lock=self.lock(credential),
            log=self.log(cloud, credential.id),
            signer=self.signer(cloud),
        )

    @_once
    def event_sink(self, cloud: Cloud) -> "Sink | None":
        """Where events of a cloud go; None where the plan names nothing there. Then nothing is loaded."""
        bus, topic = self.plan.event_bus, self.plan.event_topic
        clouds = Clouds(
            self.source,
            self._identity,
            timeouts=Timeouts(cloud=EVENT_TIMEOUTS),
            clock=self.clock,
            deadline_guard=self.deadline_guard,
        )
        if cloud == "aws" and bus:
            from lockstep.aws.eventbridge import EventBridgeBus

            return EventBridgeBus(clouds.aws("events", bus.region), bus.name)
        if cloud == "oci" and topic:
            from lockstep.oci.notifications import NotificationsTopic

            return NotificationsTopic(clouds.oci(topic.region), topic.topic_id)
        return None

    def published(self, place: PlanInBucket) -> PlanBucket:
        """The folder of a published plan. Nothing is asked of the plan at hand."""
        folder = folder_of(place.digest)
        if place.namespace:
            from lockstep.oci.object_storage import ObjectStorageFolder

            clients = self.oci(place.region)
            return ObjectStorageFolder(clients, namespace=place.namespace, bucket=place.bucket, folder=folder)
        from lockstep.aws.s3 import S3Folder

        return S3Folder(self.aws("s3", place.region), place.bucket, folder)

    @_once
    def caller(self) -> str:
        """AWS's name of the identity, for the audit log; asked once."""
        from lockstep.aws.clients import caller_arn

        return caller_arn(self.aws("sts", self.plan.lock.region))

    def stores(self, credential: Credential) -> Stores:
        """A credential's stores, in the plan's order, each opened at its first use."""
        found = [lazy(partial(self._store, config, credential)) for config in self.plan.stores]
        return Stores(found, side_by_side=self.side_by_side)

    def each_store(self, credential: Credential) -> list[CredentialStore]:
        """The same, each to be read by itself."""
        return [self._store(config, credential) for config in self.plan.stores]

    def app_users(self, credential: Credential) -> dict[str, "EditableSecret"]:
        """A credential's `app_user` in each store, by the store's name, to be edited."""
        names = VersionNames(credential_id=credential.id, secret=credential.secret_names.app_user)
        return {config.name: open_secret(config, self, names) for config in self.plan.stores}

    def database(
        self, server: DatabaseServer, credential: Credential, *, imported: Login | None = None
    ) -> "ServerDatabase[Any]":
        """A server, or one of its `copies`, for one credential.

        Args:
            server: The server.
            credential: The credential.
            imported: A login of the credential that no store serves yet. Where the credential is the rotation
                user's own, it is the admin's login (protocol D22).
        """
        is_own = server.admin == AdminCredential(credential=credential.id)
        admin = (lambda: imported) if imported and is_own else partial(self.admin, server)
        return open_database(
            server,
            credential,
            admin,
            timeouts=self.timeouts.database,
            deadline_guard=self.deadline_guard,
        )

    def open_sessions(self, server: DatabaseServer, credential: Credential) -> "SessionList | NotCountable":
        """The open sessions of a credential on a server, or on one of its `copies`."""
        from lockstep.databases.sessions import open_sessions

        return open_sessions(self.database(server, credential))

    def inspector(self, server: DatabaseServer, credential: Credential) -> "Inspector[Any]":
        """A server, or one of its `copies`, to be looked at and not changed."""
        return inspector_of(server.engine)(self.database(server, credential))

    def evidence(self, cloud: Cloud) -> "Evidence":
        """All of the audit log in a cloud, with its digests.

        Raises:
            InvalidPlanError: The plan has no audit stream in that cloud.
        """
        from lockstep.audit.digest import Evidence

        audit = self.plan.aws_stream if cloud == "aws" else required(self.plan.oci_stream)
        lock = self.plan.lock
        return Evidence(
            stream=cloud,
            digests=self._folder(cloud, "digests"),
            chains=self._folder(cloud, cloud),
            log=partial(self.log, cloud),
            signer=self.signer(cloud),
            keys=audit.digest_keys,
            deployment=f"{lock.region}/{lock.table}",
            retention=self.plan.aws_stream.retention,
        )

    def _folder(self, cloud: Cloud, folder: str) -> EntryFolder:
        """A folder of the audit log."""
        if cloud == "aws":
            from lockstep.aws.s3 import S3Folder

            aws = self.plan.aws_stream
            return S3Folder(self.aws("s3", aws.region), aws.bucket, folder, stream=cloud)
        from lockstep.oci.object_storage import ObjectStorageFolder

        oci = required(self.plan.oci_stream)
        bucket = digest_bucket_name(oci.bucket) if folder == "digests" else oci.bucket
        return ObjectStorageFolder(
            self.oci(oci.region), namespace=oci.namespace, bucket=bucket, folder=folder, stream=cloud
        )

    def log(self, cloud: Cloud, credential_id: str) -> AuditLog:
        """A credential's audit log in a cloud."""
        return EntryLog(self._folder(cloud, f"{cloud}/{chain_folder(credential_id)}"))

    def signer(self, cloud: Cloud) -> Signer:
        """The key of the audit streams in a cloud."""
        if cloud == "aws":
            from lockstep.aws.kms import KmsSigner

            aws = self.plan.aws_stream
            kms, retired = self.aws("kms", aws.region), aws.retired_mac_keys
            orders = KmsSigner(kms, aws.order_key, retired=retired)
            return KmsSigner(kms, aws.mac_key, retired=retired, orders=orders)
        # It has read a key, and by the next run a newer version may sign.
        from lockstep.oci.vault import VaultSigner

        oci = required(self.plan.oci_stream)
        return VaultSigner(self._own_vault(), oci.mac_secret, retired=oci.retired_mac_secrets)

    def _store(self, config: Store, credential: Credential) -> CredentialStore:
        return CredentialStore(
            config.name,
            credential,
            partial(open_secret, config, self),
            side_by_side=self.side_by_side,
        )

    def admin(self, server: DatabaseServer) -> Login:
        """The login of a server's rotation user, as it is now (protocol D22).

        Raises:
            AdminCredentialRejectedError: The secret holds a placeholder.
            LockstepError: As a store's.
        """
        home, plan = self.home, self.plan
        match server.admin:
            case AdminSecret(oci=in_oci, aws=in_aws):
                name = in_oci if home == "oci" else in_aws
                login, _ = decode_app_user(self.secret(name), store=home, secret=name)
            case AdminCredential(credential=credential_id):
                own = (plan.vault if home == "oci" else plan.aws_store) or plan.stores[0]
                login = self._store(own, self.source.of(credential_id).found(credential_id)).read_login()
            case AdminIam() as admin:
                from lockstep.aws.rds import token_login

                if server.plaintext:
                    raise TlsVerificationError(database=server.name)
                login = token_login(server, admin, self._keys())
        if login is None:
            raise AdminCredentialRejectedError(database=server.name)
        return login


# Objects that are made when they are first needed.


def lazy(make: Callable[[], MadeT]) -> MadeT:
    """An object that is made when one of its attributes is first asked for, or its items.

    A step that does not use it loads nothing for it.
    """
    return cast("MadeT", _Later(make))


class _Later:
    """Stands for what `make` makes, once, whichever thread asks first."""

    __slots__ = ("_lock", "_made", "_make")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = RLock()
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the object
        return getattr(self._object(), name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._object())

    def _object(self) -> Any:  # noqa: ANN401 - as the object
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made
