"""What no emulator can tell: `unknowns.yaml`, and what real accounts have answered (`docs/confirmed.json`).

`lockstep doctor --confirm FILE` asks by what changes nothing: the findings of `doctor --in-cloud`, and reads. What
would change something, or takes a day, it names as a command.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from ruamel.yaml import YAML

from lockstep.databases.findings import HERE
from lockstep.protocol.strict_json import Message


class Told(Message):
    """The findings that answer: of a check, from a place, with this in their subject and sentence."""

    check: str
    where: str = HERE
    about: str = ""


class Read(Message, kw_only=True):
    """A call that changes nothing, and what of its answer is looked at.

    Attributes:
        client: A service of boto3, or a class of OCI's SDK such as `limits.LimitsClient`.
        operation: The SDK's name of it.
        parameters: Its arguments.
        look: JMESPath into the answer.
        expect: What that must give; without it, that is a measurement.
    """

    client: str
    operation: str
    parameters: Mapping[str, Any] = {}
    look: str
    expect: Any = UNSET


class Unknown(Message, kw_only=True):
    """A question to a real account, and one way to ask it; `unknowns.yaml` says what each field is."""

    id: str
    what: str
    depends: str
    when: str = "@"
    first: str = ""
    finding: Told | None = None
    aws: Read | None = None
    oci: Read | None = None
    by_hand: str | None = None

    @property
    def group(self) -> str:
        """The group of its id."""
        return self.id.partition(".")[0]


class Confirmation(Message, kw_only=True):
    """What a real account has answered, without a name of anything in it.

    Attributes:
        answer: What became of the question.
        on: The day.
        version: That of Lockstep.
        regions: Those of the plan, such as `aws eu-central-1`.
        value: What was measured.
    """

    answer: Literal["confirmed", "refuted", "measured"]
    on: date
    version: str
    regions: Sequence[str]
    value: Any | UnsetType = UNSET


@cache
def unknowns() -> tuple[Unknown, ...]:
    """All of them, in groups."""
    listed = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml"))
    return msgspec.convert(listed, tuple[Unknown, ...])


def confirmations(file: Path) -> dict[str, Confirmation]:
    """What a file says of each id that it has; nothing where there is no file.

    Raises:
        msgspec.DecodeError: It is none of these.
    """
    return msgspec.json.decode(file.read_bytes(), type=dict[str, Confirmation]) if file.exists() else {}
