"""What the agent keeps: the newest value of each secret that a store has shown, and when that was.

How it is kept is `lockstep.client.cache`.

A value may be served until its overlap has passed since a store was last seen to serve it: until then it logs in, even
if a newer one was promoted right after that look (protocol I1).
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from lockstep.client.cache import CredentialCache, StoreSource
from lockstep.plan.compiled import AwsStore, Store, VaultStore
from lockstep.protocol.errors import LockstepError, SecretMalformedError, StoreUnreachableError
from lockstep.protocol.model import SecretStr
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import BINARY
from lockstep.stores.contents import with_numbers
from lockstep.stores.readers import ReadResult, Snapshot

if TYPE_CHECKING:
    from lockstep.aws.secrets_manager import SecretsManagerSecret
    from lockstep.stores.ring import RingReader

_RANDOM_END = re.compile(r"-[A-Za-z0-9]{6}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The value of a secret, as a store serves it. Two of one version are equal: the keys of others differ by store.

    Attributes:
        text: The secret's text; JSON, if Lockstep wrote it.
        version: The id of the version; the same in every cloud for a value of Lockstep's.
        generation: 0 if Lockstep did not write it.
        created_at: When the version was made, by the store's clock.
    """

    text: SecretStr = field(compare=False)
    version: str
    generation: int
    created_at: datetime | None = field(default=None, compare=False)


Read = Callable[[], Reading]
"""Reads a secret from one store. Raises the Store* errors of `lockstep.protocol.errors`."""


Kept: TypeAlias = Snapshot[Reading]
"""A value that is kept, with the store that showed it last, and when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that the agent serves.

    Attributes:
        name: As in the plan; what applications ask for.
        credential_id: The credential that it belongs to.
        overlap: How long a value logs in after a newer one was promoted.
        sources: By the store's name, the nearest first.
        has_login: Whether it is the one with the password.
    """

    name: str
    credential_id: str
    overlap: timedelta
    sources: Mapping[str, Read]
    has_login: bool = True


class Value(CredentialCache[Reading]):
    """The value of one secret. Threads may share it.

    Args:
        secret: The secret.
        clock: Seconds that only grow, and that count while the machine is suspended.
        news: Is set when a caller has asked and got another value than was kept.

    Attributes:
        answered: How many reads of each store gave a value.
        failed: How many gave none.
        problem: Why the nearest store that was passed over was; empty: none was.
        silent: The stores that did not answer the last read.
    """

    def __init__(self, secret: Secret, clock: Callable[[], float], news: threading.Event) -> None:
        overlap = secret.overlap.total_seconds()
        sources = [StoreSource(name, read) for name, read in secret.sources.items()]
        super().__init__(sources, max_age_seconds=overlap, refuse_after_seconds=overlap, clock=clock)
        self.secret = secret
        self.answered, self.failed = Counter[str](), Counter[str]()
        self.problem = ""
        self.silent: set[str] = set()
        self._news = news

    @property
    def seconds_left(self) -> float:
        """How long what is kept logs in at least; not above zero if it may be revoked."""
        return self.secret.overlap.total_seconds() - self.age_seconds

    @property
    def served(self) -> Kept | None:
        """What is kept, if it may be served."""
        return None if self.is_over else self.kept

    def refresh(self, *, last: Collection[str] = ()) -> set[str]:
        """Read the stores, those of `last` after all others; which of them did not answer."""
        self.read(last=last).exception()
        return self.silent

    def refresh_now(self) -> None:
        """Read for a caller whose login was refused: where the nearest store has nothing newer, the next is asked."""
        before = self.kept
        self.another().exception()
        if self.kept and (before is None or self.kept.value != before.value):
            self._news.set()

    def _note(self, found: ReadResult[Reading]) -> None:
        shown = {seen.source for seen in found.shown}
        self.answered.update(shown)
        self.failed.update(found.failed.keys() - shown)
        self.problem = next(map(describe, found.failed.values()), "")
        self.silent = {s for s, error in found.failed.items() if isinstance(error, StoreUnreachableError)}


class Values:
    """The values of all secrets.

    Attributes:
        news: Is set when a caller has asked and got another value than was kept: files have to follow.
    """

    def __init__(self, secrets: Sequence[Secret], clock: Callable[[], float]) -> None:
        self.news = threading.Event()
        self._values = {secret.name: Value(secret, clock, self.news) for secret in secrets}

    def __iter__(self) -> Iterator[Value]:
        return iter(self._values.values())

    def refresh(self) -> None:
        """Read every secret. A store that does not answer is waited for once: the time-outs of many would add up."""
        silent: set[str] = set()
        for value in self:
            silent |= value.refresh(last=silent)

    def find(self, secret_id: str) -> Value | None:
        """The value of a secret by its name or its ARN; None if it is not one of these."""
        return next(
            (v for name in (secret_id, *_names_in_arn(secret_id)) if (v := self._values.get(name))), None
        )

    def beside(self, value: Value) -> Value | None:
        """The credential's other secret, which has the addresses of its databases: they do not die with an overlap."""
        others = (v for v in self if v.secret.credential_id == value.secret.credential_id and v is not value)
        return next(others, None)

    @property
    def are_served(self) -> bool:
        """Whether every value may be served."""
        return all(value.served for value in self)


def describe(error: Exception) -> str:
    """An error of ours tells no value; the text of another one might."""
    return f"{type(error).__name__}: {error}" if isinstance(error, LockstepError) else type(error).__name__


def _names_in_arn(arn: str) -> tuple[str, ...]:
    """The names that a secret's ARN may mean: with its end, and without the end that AWS appends to a name.

    A caller may leave that end out, and the last part of a name with a hyphen is no such end
    (https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen).
    """
    parts = arn.split(":", 6)
    is_secret = len(parts) == 7 and parts[0] == "arn" and parts[2] == "secretsmanager"  # noqa: PLR2004 - of an ARN
    return (parts[6], _RANDOM_END.sub("", parts[6])) if is_secret and parts[5] == "secret" else ()


# Where the agent reads values: the stores of a plan, each with the identity that its cloud gives this process.

# Imported late, so that an agent that reads one cloud does not load the other's SDK.
# ruff: noqa: PLC0415


ReaderOf = Callable[[VersionNames], Read]
"""How a secret is read."""


def reader_of(store: Store) -> ReaderOf:
    """How secrets are read from a store. They share one client."""
    match store:
        case AwsStore():
            from lockstep.aws.clients import aws_client
            from lockstep.aws.secrets_manager import SecretsManagerSecret

            client = aws_client("secretsmanager", store.region)
            return lambda names: partial(
                _in_aws, SecretsManagerSecret(client, store.name, names), store.name, names.secret
            )
        case VaultStore():
            from lockstep.client.sources import own_vault
            from lockstep.stores.ring import RingReader

            vault = own_vault(
                region=store.region,
                compartment_id=store.compartment_id,
                vault_id=store.vault_id,
                store=store.name,
            )
            return lambda names: partial(_in_oci, RingReader(vault, names), store.name, names)


def _in_aws(secret: "SecretsManagerSecret", store: str, name: str) -> Reading:
    found = secret.read_current()
    text = _text(found.text, store, name)
    return Reading(text=text, version=found.id, generation=found.generation, created_at=found.created_at)


def _in_oci(ring: "RingReader", store: str, names: VersionNames) -> Reading:
    slot, found = ring.newest()
    generation = names.generation_of(found.name)
    version = found.name if generation and found.name else f"{slot}:{found.number}"
    text = _text(found.text, store, names.secret)
    return Reading(text=text, version=version, generation=generation, created_at=found.created_at)


def _text(text: str | None, store: str, secret: str) -> SecretStr:
    """The same form from both stores: which one answers must make no difference to an application (protocol V23)."""
    if text is None:
        raise SecretMalformedError(store=store, secret=secret, code=BINARY)
    return SecretStr(with_numbers(text))
