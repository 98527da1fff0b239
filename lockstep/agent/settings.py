"""The file that configures the agent; the plan that it names has the stores, names and overlaps.

version: 1
plan: lockstep.yaml
credentials: [multi-cloud/app_user]
nearest: oci
files:
  - path: /run/lockstep/.pgpass
    format: pgpass
"""

import grp
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from lockstep.agent.files import FORMATS
from lockstep.plan.compiled import Store
from lockstep.plan.fields import CredentialId, Duration, Name, Section
from lockstep.plan.file import PlanProblemsError, Problem, load_plan, problems_of, read_text, read_yaml
from lockstep.plan.model import Plan
from lockstep.protocol.model import Credential

DEFAULT_PORT = 2773
"""That of the AWS Secrets Manager Agent."""
REFRESHES_IN_AN_OVERLAP = 4
"""Several reads may fail before a value has to be refused."""
AS_THE_PROCESS = -1
"""A group of a file that is not named."""


def _mode(value: object) -> object:
    """A mode as people write it: `0640`, quoted or not (YAML 1.2 reads `0640` as 640)."""
    text = str(value).removeprefix("0o")
    if not (text.isdecimal() and len(text) <= 4 and set(text) <= set("01234567")):  # noqa: PLR2004 - digits
        raise ValueError('write a mode as four octal digits: "0640"')
    return int(text, 8)


def _group_id(value: object) -> int:
    """The id of a group of this machine, by its name."""
    if not isinstance(value, str):
        raise ValueError("must be a name")  # noqa: TRY004 - pydantic tells of a ValueError
    try:
        return grp.getgrnam(value).gr_gid
    except KeyError:
        raise ValueError(f"this machine has no group {value}") from None


class File(Section):
    """A file that the agent keeps.

    Attributes:
        credential: Needed where the agent has several.
        database: Whose address it gets; none: the credential's first.
        template: A jinja2 template instead of a format.
        group: Named in the settings, an id here.
        command: Runs after a change; its first word is a program.
    """

    path: Path
    credential: CredentialId | None = None
    database: Name | None = None
    format: Literal["json", "pgpass", "my-cnf"] | None = None
    template: Path | None = None
    mode: Annotated[int, BeforeValidator(_mode)] = 0o600
    group: Annotated[int, BeforeValidator(_group_id)] = AS_THE_PROCESS
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.format is None) == (self.template is None):
            raise ValueError(f"give it a format (json, {', '.join(FORMATS)}) or a template, not both")
        if not self.path.is_absolute():
            raise ValueError("path: must be absolute")
        if self.mode & 0o007:
            raise ValueError("mode: everybody could read the password; use 0600 or 0640 and a group")
        return self


def _plan(value: object, info: ValidationInfo) -> Plan:
    """The plan in the file that the settings name; a relative path begins at the folder of the settings."""
    if not isinstance(value, str):
        raise ValueError("must be the path of a plan file")  # noqa: TRY004 - pydantic tells of a ValueError
    return load_plan(Path(info.context or "") / value)


class Settings(Section):
    """The whole file.

    Attributes:
        plan: Read: it has the stores, the names of the secrets, and the overlaps.
        credentials: Which credentials of the plan; none: all.
        nearest: The store that is asked first; none: the first of the plan.
        refresh: How often the stores are asked; none: a quarter of the shortest overlap, a minute at most.
        port: Of loopback, where requests come in.
        token_file: Has the token that requests must bring; made with mode 0640 if it is not there.
    """

    version: Literal[1]
    plan: Annotated[Plan, PlainValidator(_plan)]
    credentials: tuple[CredentialId, ...] = ()
    nearest: Name | None = None
    refresh: Duration | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    token_file: Path = Path("/run/lockstep/agent-token")
    files: tuple[File, ...] = ()

    def problems(self) -> Iterator[str]:
        """As in the base class."""
        known, stores = [c.id for c in self.plan.credentials], [store.name for store in self.plan.stores]
        if unknown := [name for name in self.credentials if name not in known]:
            yield f"credentials: the plan has no {', '.join(unknown)}, only {', '.join(known)}"
            return
        if self.nearest not in (None, *stores):
            yield f"nearest: there is no store {self.nearest}, only {', '.join(stores)}"
        if self.how_often * 2 > min(c.schedule.overlap for c in self.served):
            yield "refresh: must be at most half of the shortest overlap"
        if self.how_often < timedelta(seconds=1):
            yield "refresh: must be at least 1s"
        for i, file in enumerate(self.files):
            if file.path in (self.token_file, *(other.path for other in self.files[:i])):
                yield f"files[{i}].path: {file.path} is written already"
            yield from (f"files[{i}].{problem}" for problem in self._problems_of(file))

    def _problems_of(self, file: File) -> Iterator[str]:
        ids = [c.id for c in self.served]
        if file.credential is None and len(ids) > 1:
            yield f"credential: needed, there are several: {', '.join(ids)}"
        elif file.credential not in (None, *ids):
            yield f"credential: there is no {file.credential}, only {', '.join(ids)}"
        elif file.database not in (None, *(credential := self.credential_of(file)).databases):
            known = ", ".join(credential.databases)
            yield f"database: {credential.id} has no database {file.database}, only {known}"

    @property
    def served(self) -> tuple[Credential, ...]:
        """The credentials that are served."""
        return tuple(c for c in self.plan.credentials if c.id in (self.credentials or (c.id,)))

    @property
    def how_often(self) -> timedelta:
        """How often the stores are asked."""
        shortest = min(c.schedule.overlap for c in self.served)
        by_itself = min(shortest / REFRESHES_IN_AN_OVERLAP, timedelta(minutes=1))
        return by_itself if self.refresh is None else self.refresh

    @property
    def stores_in_turn(self) -> tuple[Store, ...]:
        """The stores, the nearest first."""
        return tuple(sorted(self.plan.compiled.stores, key=lambda s: s.name != self.nearest))

    def credential_of(self, file: File) -> Credential:
        """The credential whose login a file has."""
        return next(c for c in self.served if file.credential in (None, c.id))


def load_settings(file: Path) -> Settings:
    """Read and check the settings, and the plan that they name.

    Raises:
        PlanProblemsError: With every mistake of the settings, or of the plan.
    """
    document = read_yaml(read_text(file), file=str(file))
    try:
        return Settings.model_validate(document.data, context=file.parent)
    except ValidationError as error:
        raise PlanProblemsError(problems_of(error, document, Settings)) from None
    except PlanProblemsError as error:
        raise PlanProblemsError([Problem("plan", str(problem)) for problem in error.problems]) from None
