"""The file that configures the agent; it has the plan's stores and names, or says where the plan is.

version: 1
plan: lockstep.yaml
credentials: [multi-cloud/app_user]
nearest: oci
files:
  - path: /run/lockstep/.pgpass
    format: pgpass
"""

import grp
import pwd
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from lockstep.agent.files import FORMATS
from lockstep.plan.compiled import Store
from lockstep.plan.fields import CredentialId, Duration, Name, SecretName, Section, Text
from lockstep.plan.file import NotYamlError, PlanProblemsError, load_plan, problems_of, read_yaml
from lockstep.plan.model import Plan
from lockstep.plan.stores import StoreConfig
from lockstep.protocol.errors import TerminalError

DEFAULT_PORT = 2773
"""That of the AWS Secrets Manager Agent."""
REFRESHES_IN_AN_OVERLAP = 4
"""Several reads may fail before a value has to be refused."""
MAX_CHARACTERS = 262_144
AS_THE_PROCESS = -1
"""An owner or group of a file that is not named."""


class SettingsError(TerminalError):
    """The agent's settings are not valid.

    Correct them, and look again: `lockstep agent --check`.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__()


def _mode(value: object) -> object:
    """A mode as people write it: `0640`, quoted or not (YAML 1.2 reads `0640` as 640)."""
    text = str(value).removeprefix("0o")
    if not (text.isdecimal() and len(text) <= 4 and set(text) <= set("01234567")):  # noqa: PLR2004 - digits
        raise ValueError('write a mode as four octal digits: "0640"')
    return int(text, 8)


def _id(what: str, of_name: Callable[[str], tuple[Any, ...]], value: object) -> int:
    """The id of a user or a group of this machine, by its name."""
    if value is None:
        return AS_THE_PROCESS
    if not isinstance(value, str):
        raise ValueError("must be a name")  # noqa: TRY004 - pydantic tells of a ValueError
    try:
        return int(of_name(value)[2])
    except KeyError:
        raise ValueError(f"this machine has no {what} {value}") from None


class Signal(Section):
    """A signal to the process whose id is in a file."""

    name: Literal["HUP", "USR1", "USR2", "WINCH"] = "HUP"
    pid_file: Path


class File(Section):
    """A file that the agent keeps.

    Attributes:
        credential: Needed where the agent has several.
        database: Whose address it gets; none: the credential's first.
        template: A jinja2 template instead of a format.
        owner: Named in the file, an id here.
        group: Likewise.
        command: Runs after a change; its first word is a program.
        command_timeout: After which it is ended.
    """

    path: Path
    credential: CredentialId | None = None
    database: Name | None = None
    format: Literal["json", "env", "pgpass", "my-cnf", "pgbouncer-userlist"] | None = None
    template: Path | None = None
    mode: Annotated[int, BeforeValidator(_mode)] = 0o600
    owner: Annotated[int, BeforeValidator(partial(_id, "owner", pwd.getpwnam))] = AS_THE_PROCESS
    group: Annotated[int, BeforeValidator(partial(_id, "group", grp.getgrnam))] = AS_THE_PROCESS
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    command_timeout: Duration = timedelta(seconds=30)
    signal: Signal | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.format is None) == (self.template is None):
            raise ValueError(f"give it a format ({', '.join(FORMATS)}) or a template, not both")
        if not self.path.is_absolute():
            raise ValueError("path: must be absolute")
        if self.mode & 0o007:
            raise ValueError("mode: everybody could read the password; use 0600 or 0640 and a group")
        return self


class Listen(Section):
    """Where requests come in. With a socket there is no port.

    Attributes:
        public: Consent to an address that others can reach; the token crosses the network in plain text.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    socket: Path | None = None
    public: bool = False
    path_prefix: Annotated[str, Text(r"/([A-Za-z0-9_-]+/)+", "a path that begins and ends with a slash")] = (
        "/v1/"
    )

    @model_validator(mode="after")
    def _is_private(self) -> Self:
        try:
            is_private = self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            is_private = False
        if not (is_private or self.public or self.socket):
            raise ValueError(
                f"host: {self.host} can be reached from elsewhere; use 127.0.0.1, a socket, or say `public: true`"
            )
        return self


class SecretPair(Section):
    """The names of a credential's two secrets in the plan."""

    app_user: SecretName
    connection_blob: SecretName | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """One or both."""
        return (self.app_user, self.connection_blob) if self.connection_blob else (self.app_user,)


class Served(Section):
    """A credential that is served.

    Attributes:
        overlap: How long a value logs in after a newer one was promoted.
    """

    id: CredentialId
    secrets: SecretPair
    overlap: Duration


class Settings(Section):
    """The whole file.

    Attributes:
        plan: Where the stores, names and overlaps are; else `stores` and `serve` say them.
        credentials: Which credentials of the plan; none: all.
        nearest: The store that is asked first; none: the first of the plan.
        refresh: How often the stores are asked; none: a quarter of the shortest overlap, a minute at most.
        token_file: Has the token that requests must bring; made with mode 0640 if it is not there.
    """

    version: Literal[1]
    plan: Path | None = None
    credentials: tuple[CredentialId, ...] = ()
    stores: tuple[StoreConfig, ...] = ()
    serve: tuple[Served, ...] = ()
    nearest: Name | None = None
    refresh: Duration | None = None
    listen: Listen = Listen()
    token_file: Path = Path("/run/lockstep/agent-token")
    files: tuple[File, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.plan) == bool(self.stores):
            raise ValueError("give it a plan, or stores and serve, not both")
        if self.stores and not self.serve:
            raise ValueError("serve: with stores instead of a plan, name the credentials that are served")
        return self

    @property
    def shortest_overlap(self) -> timedelta:
        """Of the credentials that are served."""
        return min(served.overlap for served in self.serve)

    @property
    def how_often(self) -> timedelta:
        """How often the stores are asked."""
        return self.refresh or min(self.shortest_overlap / REFRESHES_IN_AN_OVERLAP, timedelta(minutes=1))

    @property
    def stores_in_turn(self) -> tuple[Store, ...]:
        """The stores, the nearest first."""
        return tuple(s.compile() for s in sorted(self.stores, key=lambda s: s.name != self.nearest))

    def served_by(self, file: File) -> Served:
        """The credential whose login a file has."""
        return next(s for s in self.serve if file.credential in (None, s.id))


def load_settings(file: Path) -> Settings:
    """Read and check the settings; where they name a plan, its stores and credentials are in them.

    Raises:
        SettingsError: With every mistake.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingsError([f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"]) from None
    try:
        document = read_yaml(text[:MAX_CHARACTERS], file=file.name)
    except NotYamlError as error:
        raise SettingsError([f"{error.mark}: {error.problem}"]) from None
    try:
        settings = Settings.model_validate(document.data)
        plan = load_plan(file.parent / settings.plan) if settings.plan else None
    except ValidationError as error:
        raise SettingsError([str(problem) for problem in problems_of(error, document, Settings)]) from None
    except PlanProblemsError as error:
        raise SettingsError([f"plan: {problem}" for problem in error.problems]) from None
    if plan:
        settings = _with_plan(settings, plan)
    problems = list(_problems(settings))
    if plan and not problems:
        problems = list(_database_problems(settings, plan))
    if problems:
        raise SettingsError(problems)
    return settings


def _with_plan(settings: Settings, plan: Plan) -> Settings:
    """The settings with the plan's stores and credentials in them."""
    ids = [c.id for c in plan.credentials]
    unknown = [name for name in settings.credentials if name not in ids]
    if unknown:
        raise SettingsError([f"credentials: the plan has no {', '.join(unknown)}, only {', '.join(ids)}"])
    served = [
        Served(
            id=c.id,
            secrets=SecretPair.model_validate(c.secret_names, from_attributes=True),
            overlap=c.schedule.overlap,
        )
        for c in plan.credentials
        if c.id in (settings.credentials or ids)
    ]
    return settings.model_copy(update={"stores": plan.stores, "serve": tuple(served)})


def _problems(settings: Settings) -> Iterator[str]:
    stores = [store.name for store in settings.stores]
    if settings.nearest not in (None, *stores):
        yield f"nearest: there is no store {settings.nearest}, only {', '.join(stores)}"
    if settings.how_often * 2 > settings.shortest_overlap:
        yield "refresh: must be at most half of the shortest overlap"
    if settings.how_often < timedelta(seconds=1):
        yield "refresh: must be at least 1s"
    ids = [served.id for served in settings.serve]
    paths = [file.path for file in settings.files]
    for i, file in enumerate(settings.files):
        if file.path in (settings.token_file, *paths[:i]):
            yield f"files[{i}].path: {file.path} is written already"
        if file.credential is None and len(ids) > 1:
            yield f"files[{i}].credential: needed, there are several: {', '.join(ids)}"
        elif file.credential not in (None, *ids):
            yield f"files[{i}].credential: there is no {file.credential}, only {', '.join(ids)}"


def _database_problems(settings: Settings, plan: Plan) -> Iterator[str]:
    databases = {c.id: [server.name for server in c.servers] for c in plan.credentials}
    for i, file in enumerate(settings.files):
        credential_id = settings.served_by(file).id
        known = databases[credential_id]
        if file.database not in (None, *known):
            yield f"files[{i}].database: {credential_id} has no database {file.database}, only {', '.join(known)}"
