"""Everything that a rotation touches, on this machine: both clouds, databases, plan and the deployed state machine.

    with running_estate([credential("multi-cloud/app_user", "orders")], servers) as estate:
        execution = estate.rotate("multi-cloud/app_user")

The functions are the real handlers. They find the sandbox through environment variables, as they find the clouds.
With a wire, everything that the shipped code calls goes over it: the variables and the plan name the fronts.
"""

import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from pathlib import Path

from lockstep.audit.append import OrderResult
from lockstep.audit.verify import Verification, Verifier, verify
from lockstep.aws.clients import botocore_session
from lockstep.cli.orders import order_context
from lockstep.operate.access import evidence_of, operator
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.plan.published import WholePlan
from lockstep.protocol.deadlines import Timeouts, check_scope
from lockstep.protocol.model import Credential, Login, SecretStr
from lockstep.protocol.orders import Order
from lockstep.protocol.ports import Clock, chain_folder
from lockstep.protocol.workers import SideBySide, at_the_same_time
from lockstep.runtime import wiring
from lockstep.runtime.identity import AWS_RUNNER, CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE, OCI_RUNNER
from lockstep.runtime.system import SystemClock
from lockstep.stores.credential import Ports
from sandbox import plans
from sandbox.digests import DigestFunctions, StoresClock, make_digest_keys
from sandbox.emulators.aws import AwsSandbox, Execution, create_resources
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.databases import DatabaseServer, running
from sandbox.emulators.databases.front import DatabaseFront, TlsServer
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.first_day import activate
from sandbox.fn import function_variables
from sandbox.http_front import aws_front, oci_front
from sandbox.identities import OCI_FUNCTION, Identities, Way, make_identities, make_log
from sandbox.oci_resources import create_ring, make_secrets, names_in, restore_audit_objects
from sandbox.outside import Outside, StoreName, lets_in
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE, Document
from sandbox.servers import (
    admin_texts,
    login_text,
    make_database,
    new_rotation_users,
    planned,
    provision,
    set_password,
)
from sandbox.steps import deploy_state_machine, register_functions
from sandbox.watching import EventEstate, make_event_estate
from sandbox.wire import Wire

PLACEHOLDER = json.dumps({"placeholder": True})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an estate differs from others.

    Attributes:
        clouds: Those that the plan has a store, an audit log and a runner in.
        audit_tier: Of the OCI audit bucket; in `Standard` entries can be read at once.
        timeouts: Of the AWS runner.
        clock: The AWS runner's.
        events: Whether the plan sends events.
        way: How the runners prove themselves in the other cloud, where there is one.
        admins: The credential that is a server's rotation user, by the server's name; for all others secrets have it.
    """

    clouds: tuple[StoreName, ...] = ("aws", "oci")
    audit_tier: str = "Archive"
    timeouts: Timeouts = field(default_factory=Timeouts)
    clock: Clock = field(default_factory=SystemClock)
    events: bool = False
    way: Way = Way.SESSIONS
    admins: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Estate:
    """What runs.

    Attributes:
        folder: Holds the plan file.
        settings: As asked for.
        plan: As the shipped code reads it.
        direct: The same plan, past a wire.
        servers: The database servers, by their name in the plan.
        outside: Reads the stores and the lock table.
        machine_arn: The state machine, made from `statemachine.asl.json`.
        identities: Who the runners are.
        digests: What makes digests, where it is told to.
        function_environment: What the OCI function is started with.
        confidential: Texts that must not be shown, besides the values of the credentials.
        event_estate: Where events go; None where the plan sends none.
    """

    folder: Path
    settings: Settings
    plan: Plan
    plan_file: Path
    direct: Plan
    aws: AwsSandbox
    oci: OciSandbox
    servers: Mapping[str, DatabaseServer]
    outside: Outside
    machine_arn: str
    identities: Identities
    digests: DigestFunctions
    function_environment: Mapping[str, str]
    confidential: Sequence[str] = field(repr=False)
    event_estate: EventEstate | None = None

    def rotate(self, credential_id: str, *, timeout_seconds: float = 60.0, **more: object) -> Execution:
        """Start an execution, as the rule does, and wait for its end."""
        given = {"credential_id": credential_id, **more}
        if credential := self.plan.credential(credential_id):
            given = {"interval": int(credential.schedule.interval.total_seconds()), **given}
        return self.aws.run_execution(self.machine_arn, given, timeout_seconds=timeout_seconds)

    def restart_functions(self) -> None:
        """Let the next invocation of each function in AWS begin cold."""
        _forget()

    @property
    def events(self) -> EventEstate:
        """Where events go, in an estate that sends them."""
        assert self.event_estate  # noqa: S101 - asked for in its settings
        return self.event_estate

    def order(self, credential: Credential, order: Order) -> OrderResult:
        """Give an order, as an operator does."""
        return order_context(self.plan).give(order, credential)

    def stored_login(self, credential: Credential, store: StoreName = "aws") -> Login | None:
        """What an application gets from a store at this moment; None for a placeholder."""
        found = self.outside.login(store, credential)
        return Login(found.username, SecretStr(found.password)) if found else None

    def locked_out(self, credential: Credential) -> list[str]:
        """Where what a store serves does not log in: empty, or I1 is broken."""
        logins = {store: self.outside.login(store, credential) for store in self.settings.clouds}
        return [
            f"{store} at {server.name}"
            for store, login in logins.items()
            for server in credential.servers
            if login and not lets_in(server, login)
        ]

    def make_digests(self) -> None:
        """Make the digest of this hour in each cloud, that of OCI first, as the schedules do."""
        for cloud in sorted(self.settings.clouds, reverse=True):
            self.digests.make(cloud)

    def verify(self) -> tuple[Verifier, dict[str, list[Verification]]]:
        """Verify the audit log, as an auditor does an hour later: each cloud has confirmed digests of the other one.

        Archived entries are restored meanwhile.
        """
        self.make_digests()
        restore_audit_objects(self.oci, AUDIT_BUCKET)
        for clock in {self.oci.clock, self.oci.identity_clock}:
            clock.advance(timedelta(hours=1, minutes=1))
        self.make_digests()
        clouds = operator(self.plan)
        verifier = Verifier(evidence_of(self.plan, clouds), now=self.digests.clock.now())
        return verifier, {c.id: verifier.chain(chain_folder(c.id)) for c in self.plan.credentials}

    def verify_now(self, credential: Credential) -> list[Verification]:
        """Verify one credential's chains; in OCI only what is not archived can be read."""
        identities = {"aws": AWS_RUNNER, "oci": OCI_RUNNER}
        ports = [
            wiring.Runner(WholePlan(self.plan.compiled), identities[cloud]).ports(credential.id)
            for cloud in self.settings.clouds
        ]
        return verify(credential.id, [(p.audit_log, p.signer) for p in ports])


@contextmanager
def running_estate(
    credentials: Sequence[Document],
    servers: Mapping[str, DatabaseServer],
    *,
    settings: Settings = Settings(),
    folder: Path | None = None,
    aws: AwsSandbox | None = None,
    oci: OciSandbox | None = None,
    wire: Wire | None = None,
) -> Iterator[Estate]:
    """Start everything, provision the databases with the plan's own SQL, and stop everything afterwards.

    Each credential has a login already, in the stores and in its databases, as before Lockstep. The plan is ordered to
    become the active one.

    Args:
        credentials: Of the plan; see `sandbox.plans.credential`.
        servers: Database servers by their name in the plan, not started yet.
        settings: How this estate differs from others.
        folder: For the plan; a temporary one by default.
        aws: One with other arguments than the default.
        oci: One with other arguments than the default.
        wire: In front of everything that the shipped code calls. Then it works on the databases one after another,
            so that calls come in the same order every time.
    """
    with ExitStack() as stack:
        folder = folder or Path(stack.enter_context(temporary_folder()))
        oci = oci or OciSandbox(names=aws.names if aws else None)
        stores = StoresClock(oci.identity_clock)
        aws = aws or AwsSandbox(names=oci.names, wall_clock=stores.timestamp)
        if aws.names is not oci.names:
            raise ValueError("each cloud reads the other one's documents by name, so they share their names")
        stack.enter_context(aws)
        stack.enter_context(oci)
        stack.enter_context(running(*servers.values()))
        fronts = {
            name: stack.enter_context(DatabaseFront(wire, name, server))
            for name, server in servers.items()
            if wire and isinstance(server, TlsServer)
        }
        # Where the shipped code finds the services: at their own addresses, or at those of fronts.
        aws_url, oci_url = aws.url, oci.endpoint
        if wire:
            aws_port = stack.enter_context(aws_front(wire, aws))
            aws.route_tasks_to(aws_port)
            aws_url = f"http://localhost:{aws_port}"
            oci_url = f"http://127.0.0.1:{stack.enter_context(oci_front(wire, oci))}"
        way = settings.way if "oci" in settings.clouds else Way.KEY
        identities = make_identities(aws, oci, way)
        rotation_users = new_rotation_users(servers)
        admins = admin_texts(rotation_users)
        in_aws = create_resources(
            aws, lock_table=LOCK_TABLE, audit_bucket=AUDIT_BUCKET, secrets={**admins, **identities.in_aws}
        )
        digest_keys = make_digest_keys(aws, oci, in_aws.digest_key_arn)
        event_estate = make_event_estate(aws, oci) if settings.events else None
        if event_estate:
            oci.identity.permit(OCI_FUNCTION, "ONS_TOPIC_PUBLISH", compartment=oci.own_compartment_id)
        make_log(oci, tier=settings.audit_tier)
        audit_key = make_secrets(oci, {**admins, **identities.in_oci})

        def write(file_name: str, ports: Mapping[str, DatabaseServer | DatabaseFront]) -> Path:
            names = names_in(oci, **({"topic_id": event_estate.topic_id} if event_estate else {}))
            document = plans.plan_document(
                [
                    planned(name, server, port=ports[name].port, admin=settings.admins.get(name))
                    for name, server in servers.items()
                ],
                credentials,
                region=aws.region,
                mac_key=in_aws.mac_key_arn,
                oci=names if "oci" in settings.clouds else None,
                runners=identities.section,
                events=settings.events,
            )
            document = plans.with_digest_keys(document, digest_keys.public)
            return plans.write_plan(folder / file_name, document)

        plan_file = write("lockstep.yaml", fronts or servers)
        plan = load_plan(plan_file)
        direct = load_plan(write("direct.yaml", servers))
        for server in servers.values():
            make_database(server)
        client, in_oci = aws.client("secretsmanager"), "oci" in settings.clouds
        for credential in direct.credentials:
            provision(direct, credential, servers, rotation_users)
            _import_login(credential, servers, client, oci if in_oci else None)
        client = aws.client("dynamodb")
        for credential in plan.credentials:  # Its digest is over the servers' addresses, so over a wire's.
            activate(client, LOCK_TABLE, credential)
        variables = {
            **aws.environment(),
            "AWS_ENDPOINT_URL": aws_url,
            OCI_ENDPOINT_VARIABLE: oci_url,
            wiring.PLAN_VARIABLE: str(plan_file),
        }
        # This process is the AWS runner, and an auditor who may read everything in OCI.
        auditor = str(write_config_file(folder, "auditor", oci.config()))
        stack.enter_context(environment({**variables, CONFIG_FILE_VARIABLE: auditor}))
        yield Estate(
            folder=folder,
            settings=settings,
            plan=plan,
            plan_file=plan_file,
            direct=direct,
            aws=aws,
            oci=oci,
            servers=servers,
            outside=Outside(aws, oci),
            event_estate=event_estate,
            machine_arn=_deploy(aws, settings, identities, wire.side_by_side if wire else at_the_same_time),
            identities=identities,
            digests=DigestFunctions(plan=plan, identities=identities, keys=digest_keys, clock=stores),
            function_environment=function_variables(
                aws=aws_url,
                oci=oci_url,
                plan=plan_file,
                config=write_config_file(folder, "function", identities.function_key),
            ),
            confidential=[
                audit_key,
                *identities.confidential,
                *(login.password.reveal() for login in rotation_users.values()),
            ],
        )


@contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder for servers, plan and keys, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lockstep-") as folder:
        Path(folder).chmod(0o711)  # A server that drops root's rights must be able to enter.
        yield folder


def _import_login(
    credential: Credential, servers: Mapping[str, DatabaseServer], client: Client, oci: OciSandbox | None
) -> None:
    """Give a credential a login, in its databases and in its stores."""
    # A password as a person chooses it: it meets the usual policy of every server.
    login = Login(credential.usernames[0], SecretStr(secrets.token_urlsafe(24) + "-aA1"))
    for server in credential.servers:
        set_password(servers[server.name], login)
    names = credential.secret_names
    for name, text in {names.app_user: login_text(login), names.connection_blob: PLACEHOLDER}.items():
        client.create_secret(Name=name, SecretString=text)
        if oci:
            create_ring(oci, name, text)


runner_of = cache(partial(wiring.Runner, deadline_guard=check_scope))
"""As `hosted_runner`, with other waits and workers."""


def _deploy(aws: AwsSandbox, settings: Settings, identities: Identities, workers: SideBySide) -> str:
    """Register the functions and make the state machine; its ARN."""

    def ports(function: str, credential_id: str) -> Ports:
        identity = identities.of_functions[function]
        runner = runner_of(
            wiring.hosted_source(),
            identity,
            timeouts=settings.timeouts,
            clock=settings.clock,
            side_by_side=workers,
        )
        return runner.ports(credential_id)

    register_functions(aws, ports)
    return deploy_state_machine(aws, lock_table=LOCK_TABLE)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and forget what was read from them before and after."""
    before = {name: os.environ.get(name) for name in variables}
    _forget()
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _forget()


def _forget() -> None:
    wiring.forget()
    botocore_session.cache_clear()
