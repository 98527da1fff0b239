"""What people keep in a secret beside a login: the keys that Lockstep does not know (protocol V20).

An estate that exists has more in a secret than a login: `dbClusterIdentifier`, `masterarn`, `ssl`, keys of its own.
Each value that Lockstep writes carries them on, as they were spelled: a number that no float can hold stays what it is.
A key may hold a password, so none is ever shown.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from lockstep.model import MASK
from lockstep.versioned_secret import SecretVersion

PLACEHOLDER = "placeholder"
"""What the first content of a secret has in the place of a login, in either cloud."""
MAX_TEXT_BYTES = 65_536
"""The most that any store keeps in a secret."""

_BETWEEN = re.compile(r"[ \t\n\r,:]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_DECODER = json.JSONDecoder()


class Extras:
    """Keys with their values as JSON texts. It cannot be printed, formatted, logged or pickled by accident."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, str]) -> None:
        self._members = dict(members)

    def reveal(self) -> Mapping[str, str]:
        """The JSON text of each value, by its key. Every call of this is a place to look at in a review."""
        return self._members

    def without(self, keys: Collection[str]) -> "Extras":
        """What is left without these keys."""
        return Extras({key: value for key, value in self._members.items() if key not in keys})

    def also(self, others: "Extras") -> "Extras":
        """These and others; of two of one key, that of the others."""
        return Extras({**self._members, **others.reveal()})

    def __bool__(self) -> bool:
        return bool(self._members)

    def __repr__(self) -> str:
        return f"Extras({MASK!r})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("Extras are not pickled or copied")


NO_EXTRAS = Extras({})


def object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None if it is none, or longer than any store keeps."""
    try:
        document = json.loads(text) if len(text) <= MAX_TEXT_BYTES else None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def extras_in(text: str) -> Extras | None:
    """Every key of a text; None if it is no JSON object.

    Without the mark of a placeholder, by which a reader would take the next value for one.
    """
    document = object_in(text)
    if document is None:
        return None
    members: dict[str, str] = {}
    at = text.index("{") + 1
    while text[at := _next(text, at)] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _next(text, at)
        _, end = _DECODER.raw_decode(text, at)
        members[key], at = _LONE_SURROGATE.sub(_escaped, text[at:end]), end
    return Extras(members).without((PLACEHOLDER,) if PLACEHOLDER in document else ())


def carried(served: Sequence[SecretVersion]) -> Extras | None:
    """What the next value carries on, by what every place of a secret serves; None where no place has a JSON object.

    Of a ring the newest counts of: the value of the ring, and what is in a slot and was not written by Lockstep. So an
    edit by hand of any slot counts, whichever slot it is, and a slot that was only just made, with a placeholder,
    does not.
    """
    value = serving(served)
    found = [(version, extras_in(version.text or "")) for version in served]
    readable = [(v, e) for v, e in found if e is not None and (v is value or not v.generation)]
    told = [(v, e) for v, e in readable if e]
    if not readable:
        return None
    return max(told or readable, key=lambda item: (item[0].created_at or _EARLIEST, item[0] is not value))[1]


def serving(served: Sequence[SecretVersion]) -> SecretVersion:
    """The version that is a secret's value, of those that its places serve: the highest generation (protocol V13)."""
    return max(served, key=lambda version: version.generation)


def moment(value: object) -> datetime | None:
    """When a version was made, as a store says it; None if that is no time with a zone."""
    return value if isinstance(value, datetime) and value.tzinfo else None


def _next(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
