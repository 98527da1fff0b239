"""Starts a fleet: both clouds, databases, the deployed stack, and credentials that are imported or taken over.

1. MariaDB, PostgreSQL and MySQL are started over TLS, AWS is moto, OCI an emulator; a plan names them.
2. `cdk bootstrap` and `cdk deploy`; the plan is published.
3. `lockstep secrets create` makes the secrets of both clouds.
4. `lockstep plan sql` makes the accounts. Those that have an application have a password, and `lockstep import` and
   `lockstep apply` bring them under management; the others are taken over.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lockstep.plan.file import load_plan
from lockstep.protocol.model import Credential, Engine, Login, SecretStr, Strategy
from lockstep.protocol.schedule import PER_SHARD
from lockstep.runtime.identity import OCI_ENDPOINT_VARIABLE
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox import plans
from sandbox.deploy_in_oci import know_deployed
from sandbox.deploy_in_oci import operator as administrator
from sandbox.deployed_world import (
    STACK,
    DeployedWorld,
    deploy,
    encryption_key,
    lockstep,
    make_accounts,
    plan_of,
    timed,
)
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.deployed import DeployedStack
from sandbox.emulators.databases import CertificateAuthority, DatabaseServer, running
from sandbox.emulators.oci import OciSandbox
from sandbox.estate import environment, temporary_folder
from sandbox.first_day import activate, create_secrets, take_over
from sandbox.identities import make_log
from sandbox.outside import Outside
from sandbox.plans import LOCK_TABLE, Document
from sandbox.servers import default_servers, engine_of, login_text, set_password

EVERY_NTH_ON_TWO = 10
"""One of so many credentials is on two engines."""
_SIDE_BY_SIDE = 4

Tell = Callable[[str], None]


class CommandError(Exception):
    """A command of Lockstep failed; the text is what it said."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a fleet is.

    Attributes:
        credentials: How many.
        intervals: Taken in turn, as in the plan file.
        sampled: How many credentials have applications.
        writes_a_second: What Secrets Manager takes while it throttles; less than a shard asks for.
    """

    credentials: int
    intervals: Sequence[str]
    sampled: int
    writes_a_second: float

    @classmethod
    def of(cls, credentials: int, *, sampled: int) -> "Size":
        """All of one interval where they are several shards then, else of two."""
        is_large = credentials > PER_SHARD
        return cls(
            credentials=credentials,
            intervals=("20m",) if is_large else ("20m", "30m"),
            sampled=sampled,
            writes_a_second=10 if is_large else 2,
        )


@dataclass(kw_only=True)
class Fleet(DeployedWorld):
    """What runs.

    Attributes:
        size: As asked for.
        outside: Reads the stores and the lock table.
        sampled: The credentials that have applications.
    """

    size: Size
    oci: OciSandbox
    outside: Outside
    sampled: Sequence[Credential]


@contextmanager
def running_fleet(size: Size, tell: Tell) -> Iterator[Fleet]:
    """Start, deploy, provision, import; stop and forget everything afterwards.

    Args:
        size: How large.
        tell: Told what is about to happen.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(temporary_folder()))
        seconds: dict[str, float] = {}
        servers = default_servers(CertificateAuthority(folder / "plan" / "ca"))
        tell(f"starting both clouds, {', '.join(f'{s.product} {s.version}' for s in servers.values())}")
        with timed(seconds, "start"):
            aws = stack.enter_context(AwsSandbox())
            oci = stack.enter_context(OciSandbox(names=aws.names))
            stack.enter_context(running(*servers.values()))
        credentials = _credentials(servers, size.credentials, size.intervals)
        document = plan_of(folder / "plan", servers, credentials, aws, oci)
        plan_file = plans.write_plan(folder / "plan" / "lockstep.yaml", document)
        plan = load_plan(plan_file)
        operator = {**aws.environment(), **administrator(oci, folder), PLAN_VARIABLE: str(plan_file)}
        tell(f"building and deploying the stack of {len(plan.credentials)} credentials: the CDK CLI")
        bundle = deploy(aws, plan, plan_file, folder, seconds)
        tell("making the secrets, as `lockstep secrets create` does")
        make_log(oci)
        with timed(seconds, "secrets"), environment(operator):
            create_secrets(plan, key=encryption_key(aws), oci_key=oci.key_id)
        deployed = DeployedStack(
            aws, STACK, folder / "deployed", environment={OCI_ENDPOINT_VARIABLE: oci.endpoint}
        )
        know_deployed(aws, oci, deployed)
        # Those next to each other are on other servers; one of ten is on two.
        sampled = plan.credentials[-size.sampled :] if size.sampled else ()
        fleet = Fleet(
            size=size,
            plan=plan,
            folder=folder,
            aws=aws,
            stack=deployed,
            servers=servers,
            bundle=bundle,
            functions=stack.enter_context(deployed.running()),
            audited=plan_file,
            seconds=seconds,
            oci=oci,
            outside=Outside(aws, oci),
            sampled=sampled,
        )
        tell("making the accounts, and bringing them under management")
        with timed(seconds, "accounts"):
            make_accounts(plan, servers, aws)
            _import_login(fleet, operator)
        stack.enter_context(environment(operator))
        yield fleet


def _credentials(
    servers: Mapping[str, DatabaseServer], number: int, intervals: Sequence[str]
) -> list[Document]:
    """So many credentials, spread evenly over the servers, of each strategy that a server can have.

    Args:
        servers: By name.
        number: How many.
        intervals: Taken in turn, as in the plan file.
    """
    names = list(servers)
    found = []
    for i in range(number):
        on = [names[i % len(names)]]
        if i % EVERY_NTH_ON_TWO == EVERY_NTH_ON_TWO - 1 and len(names) > 1:
            on.append(names[(i + 1) % len(names)])
        has_two_passwords = all(engine_of(servers[name]) is not Engine.POSTGRESQL for name in on)
        # Of those that can have two passwords, half do.
        dual = has_two_passwords and i // len(names) % 2 == 0
        credential_id = f"fleet/app-{i:04}"
        found.append(
            plans.credential(
                credential_id,
                *on,
                username=f"app{i:04}",
                strategy=Strategy.DUAL_PASSWORD if dual else Strategy.ALTERNATING_USERS,
                interval=intervals[i % len(intervals)],
            )
        )
    return found


def _import_login(fleet: Fleet, operator: Mapping[str, str]) -> None:
    dynamodb = fleet.aws.client("dynamodb")
    live = {credential.id for credential in fleet.sampled}
    for credential in fleet.plan.credentials:
        if credential.id not in live:
            activate(dynamodb, LOCK_TABLE, credential)
            take_over(dynamodb, LOCK_TABLE, credential)

    def one(credential: Credential) -> None:
        login = Login(credential.usernames[0], SecretStr(f"{secrets.token_urlsafe(24)}-aA1"))
        for name in credential.databases:
            set_password(fleet.servers[name], login)
        command(operator, "import", credential.id, given=login_text(login))

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(one, fleet.sampled))
    if live:
        command(operator, "apply", *sorted(live))


def command(variables: Mapping[str, str], *words: str, given: str = "") -> None:
    """Run a command of an operator.

    Raises:
        CommandError: It failed.
    """
    done = lockstep(variables, *words, given=given)
    if done.returncode:
        raise CommandError(f"lockstep {words[0]}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
