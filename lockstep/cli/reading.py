"""What a look at the stores tells: by the names of the versions, or by the values themselves.

A judgement is told where it is the same for everything that the stores may hold by what was read. Where it is not, only
the values decide, and `lockstep status --read-values` reads them (ADR 59).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal, TypeVar

from lockstep.cli.operator import named_stores
from lockstep.clouds import Clouds
from lockstep.errors import LockstepError
from lockstep.model import Credential, LockRecord, Login, SecretStr, StoredValue
from lockstep.named import NamedStore, StoredNames
from lockstep.plan import Plan
from lockstep.ports import Store

Depth = Literal["names", "values"]
Answer = StoredNames | StoredValue | LockstepError
Served = Mapping[str, StoredValue]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at a credential's stores told.

    Attributes:
        depth: What was read.
        answers: Of each store, by its name.
        pending_since: When the generation in flight was staged; None where none is in flight, or it is not staged yet.
    """

    depth: Depth
    answers: Mapping[str, Answer]
    pending_since: datetime | LockstepError | None


AnswerT = TypeVar("AnswerT")
JudgedT = TypeVar("JudgedT")

_SOME = Login("", SecretStr(""))
"""In the place of a login that was not read."""


def look(plan: Plan, clouds: Clouds, credential: Credential, record: LockRecord, depth: Depth) -> Look:
    """Ask every store, and the first one about a generation in flight.

    Args:
        plan: The plan.
        clouds: What the operator reaches.
        credential: The credential.
        record: Its lock record.
        depth: Whether values are read.
    """
    named = named_stores(plan, clouds, credential)
    names = [store.name for store in plan.stores]
    reads: list[Callable[[], StoredNames | StoredValue]] = (
        [partial(_value_of, store) for store in clouds.stores(credential)]
        if depth == "values"
        else [partial(_names_of, store) for store in named]
    )
    answers = {name: asked(read) for name, read in zip(names, reads, strict=True)}
    claim = record.claim
    # Staging begins in the first store (protocol V2), so it knows since when a generation pends.
    since = asked(partial(_staged_at, named[0], claim.generation)) if claim else None
    return Look(depth=depth, answers=answers, pending_since=since)


def asked(ask: Callable[[], AnswerT]) -> AnswerT | LockstepError:
    """An answer, or why there is none."""
    try:
        return ask()
    except LockstepError as error:
        return error


def _names_of(store: NamedStore) -> StoredNames:
    return store.read()


def _value_of(store: Store) -> StoredValue:
    return store.read_current()


def _staged_at(store: NamedStore, generation: int) -> datetime | None:
    return store.staged_at(generation)


def possible(answers: Mapping[str, StoredNames | StoredValue]) -> list[Served]:
    """Everything that the stores may hold by what was read, as far as it matters to a run.

    What Lockstep wrote under one generation is one value in every store (protocol V2). What it did not write is a login
    or a placeholder: names do not say which.
    """
    cases = [_filled(answers, login) for login in (_SOME, None)]
    return cases[:1] if cases[0] == cases[1] else cases


def _filled(answers: Mapping[str, StoredNames | StoredValue], unwritten: Login | None) -> Served:
    return {name: _value(answer, unwritten) for name, answer in answers.items()}


def _value(answer: StoredNames | StoredValue, unwritten: Login | None) -> StoredValue:
    if isinstance(answer, StoredValue):
        return answer
    return StoredValue(
        login=_SOME if answer.generation else unwritten,
        generation=answer.generation,
        blob_generation=answer.blob_generation,
        version=answer.version,
    )


def judged(cases: Iterable[Served], judge: Callable[[Served], JudgedT]) -> list[JudgedT]:
    """The different judgements of all cases; one where names tell it."""
    found: list[JudgedT] = []
    for case in cases:
        if (one := judge(case)) not in found:
            found.append(one)
    return found
