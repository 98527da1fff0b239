"""The types of the fields in a plan, for `lockstep.plan` and for the store kinds."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

from lockstep.durations import parse_duration

SECRET_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,200}")


def safe(name: str) -> str:
    """The name, if it can be a folder too.

    Raises:
        ValueError: It cannot.
    """
    parts = name.split("/")
    if not all(part.strip(".") for part in parts):
        raise ValueError("no slash at its beginning or end, no two slashes in a row, no part of only dots")
    return name


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
SecretName = Annotated[str, StringConstraints(pattern=f"^{SECRET_NAME.pattern}$"), AfterValidator(safe)]
CredentialId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/_.-]{1,200}$"), AfterValidator(safe)]
"""It becomes a folder of the audit log and part of the name of a rule (protocol R7)."""
Username = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,30}$")]
AccountHost = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._:%/-]{1,255}$"), AfterValidator(str.lower)
]
"""The host part of an account of MySQL or MariaDB, with its wildcards; the servers keep it in lower case."""
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$")]
"""The name of a region; both clouds write them alike."""


class Section(BaseModel):
    """A mapping in the plan file. An unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def repeated(what: str, values: Iterable[str]) -> Iterator[str]:
    """One sentence for each value that appears more than once."""
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{what}: {value} appears {count} times; each must be unique"
