"""The types of the fields in a plan, and what its sections have in common."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Self

import durationpy
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Text:
    """A text that matches a pattern as a whole.

    Attributes:
        pattern: Without its ends.
        words: What the text must be, as messages say it after `must be`.
    """

    pattern: str
    words: str

    def checked(self, value: str) -> str:
        """The text.

        Raises:
            ValueError: It does not match.
        """
        if not re.fullmatch(self.pattern, value):
            raise ValueError(f"must be {self.words}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's
        return core_schema.no_info_after_validator_function(self.checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # `patternErrorMessage` is what editors show instead of the pattern.
        words = f"must be {self.words}"
        return {**handler(schema), "pattern": f"^{self.pattern}$", "patternErrorMessage": words}


SECRET_NAME = Text(r"[A-Za-z0-9/_+=.@-]{1,200}", "letters, digits and / _ + = . @ -, at most 200 in all")


def safe(name: str) -> str:
    """The name, if it can be a folder too.

    Raises:
        ValueError: It cannot.
    """
    parts = name.split("/")
    if not all(part.strip(".") for part in parts):
        raise ValueError("no slash at its beginning or end, no two slashes in a row, no part of only dots")
    return name


DURATION = r"([0-9]{1,6} ?[dhms] ?)+"
"""The pattern of a duration. durationpy also takes signs, text between the parts, and other units: months as `mm`,
nanoseconds."""


_MAXIMUM = timedelta(days=999_999)
"""Far from the limit of `timedelta`, so that a multiple of a duration in the plan does not overflow."""


def parse_duration(value: object) -> timedelta:
    """The duration that a text in the plan means.

    Raises:
        ValueError: It is not a duration; the text says how to write one.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and re.fullmatch(DURATION, value):
        with suppress(durationpy.DurationError):  # out of range; its text quotes the value
            duration: timedelta = durationpy.from_str(value.replace(" ", ""))
            if duration <= _MAXIMUM:
                return duration
    raise ValueError("write a duration as a number with its unit, such as 20m, 6h or 7d")


def format_duration(duration: timedelta) -> str:
    """The duration as people write it, in whole seconds: `20m` for 1,200 seconds."""
    # durationpy would write months, which the plan refuses.
    days = f"{duration.days}d" if duration.days else ""
    rest = durationpy.to_str(timedelta(seconds=duration.seconds)) if duration.seconds else ""
    return days + rest or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{DURATION}$", "examples": ["90s", "20m", "1h30m", "7d"]}),
]
Name = Annotated[
    str,
    Text(
        r"[a-z][a-z0-9-]{0,62}",
        "lower-case letters, digits and hyphens, beginning with a letter, at most 63 in all",
    ),
]
SecretName = Annotated[str, SECRET_NAME, AfterValidator(safe)]
CredentialId = Annotated[
    str,
    Text(r"[A-Za-z0-9/_.-]{1,200}", "letters, digits and / _ . -, at most 200 in all"),
    AfterValidator(safe),
]
"""It becomes a folder of the audit log and part of the name of a rule (protocol R7)."""
Username = Annotated[
    str,
    Text(
        r"[A-Za-z_][A-Za-z0-9_]{0,29}",
        "letters, digits and underscores, beginning with no digit, at most 30 in all",
    ),
]
AccountHost = Annotated[
    str,
    Text(r"[A-Za-z0-9._:%/-]{1,255}", "a host name or an address, with % and _ as wildcards"),
    AfterValidator(str.lower),
]
"""The host part of an account of MySQL or MariaDB, with its wildcards; the servers keep it in lower case."""
Region = Annotated[
    str, Text(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", "the name of a region, such as eu-central-1")
]
"""The name of a region; both clouds write them alike."""


class Section(BaseModel):
    """A mapping in the plan file. An unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def problems(self) -> Iterator[str]:
        """What is wrong with it as a whole, each as `place: what to do`; the place is below the section."""
        return iter(())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if found := tuple(self.problems()):
            raise MistakesError(*found)
        return self


class MistakesError(ValueError):
    """What is wrong with a section: its arguments, each as `place: what to do`; the place is below the section."""


def repeated(values: Iterable[tuple[str, str]], what: str = "") -> Iterator[str]:
    """One sentence for each value that appears more than once.

    Args:
        values: Each with its place.
        what: What they are, where the place does not say it.
    """
    places: defaultdict[str, list[str]] = defaultdict(list)
    for place, value in values:
        places[value].append(place)
    for value, (first, *others) in places.items():
        if others:
            also = "" if first == others[0] else f", first in {first}"
            yield f"{others[0]}: {what}{value} appears {len(others) + 1} times{also}; each must be unique"


# What a word that is not known was probably meant to be.

_ALIKE = 0.6
"""How alike two words must be, from 0 to 1."""
_LONGEST = 64
"""Characters; no word that Lockstep knows is longer."""


def near(written: object, known: Iterable[str]) -> str:
    """The known word that was probably meant; empty where it is none.

    Args:
        written: What the file says. Nothing of it is returned.
        known: The words that are possible.
    """
    plain = _plain(str(written)[:_LONGEST])
    words = {_plain(word): word for word in known}
    begin = [word for word in words if plain and word.startswith(plain)]
    found = begin if len(begin) == 1 else get_close_matches(plain, words, n=1, cutoff=_ALIKE)
    return words[found[0]] if found else ""


def with_hint(message: str, hint: str) -> str:
    """The message, with the word that was probably meant."""
    return f"{message}; did you mean {hint}?" if hint else message


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
