"""What the agent keeps: the newest value of each secret that a store has shown, and when that was.

How it is kept is `lockstep.client.cache`.

A value may be served until its overlap has passed since a store was last seen to serve it: until then it logs in, even
if a newer one was promoted right after that look (protocol I1).
"""

import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from lockstep.client.cache import CredentialCache, Snapshot, StoreSource
from lockstep.client.sources import ReadText, StoredText, aws_texts, vault_texts
from lockstep.plan.compiled import AwsStore, Store
from lockstep.protocol.errors import Environment, LockstepError, StoreUnreachableError
from lockstep.protocol.model import SecretStr

_ARN = re.compile(r"(?P<place>arn:[^:]+:secretsmanager:(?P<region>[^:]+):\d+:secret:)(?P<name>.+)", re.ASCII)
_RANDOM_END = re.compile(r"-[A-Za-z0-9]{6}\Z")
_OF_ONE_SECRET = (None, Environment.AWS_ACTION_DENIED, Environment.OCI_ACTION_DENIED)

Kept: TypeAlias = Snapshot[StoredText]
"""A value that is kept, with the store that showed it last, and when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that the agent serves.

    Attributes:
        name: As in the plan; what applications ask for.
        credential_id: The credential that it belongs to.
        overlap: How long a value logs in after a newer one was promoted.
        region: Of the AWS store; None: there is none, so that the secret has no ARN.
        sources: What reads it from each store, the nearest first.
        has_login: Whether it is the one with the password.
    """

    name: str
    credential_id: str
    overlap: timedelta
    sources: Sequence[StoreSource[StoredText]]
    region: str | None = None
    has_login: bool = True


class Value(CredentialCache[StoredText]):
    """The value of one secret. Threads may share it.

    Args:
        secret: The secret.
        clock: Seconds that only grow, and that count while the machine is suspended.
        news: Is set when a caller has asked and got another value than was kept.

    Attributes:
        given: The generation that was given last in each way, by `http` or as a file, whose path is the way.
    """

    def __init__(self, secret: Secret, clock: Callable[[], float], news: threading.Event) -> None:
        overlap = secret.overlap.total_seconds()
        super().__init__(secret.sources, max_age_seconds=overlap, refuse_after_seconds=overlap, clock=clock)
        self.secret = secret
        self.given: dict[str, int] = {}
        self._news = news

    @property
    def seconds_left(self) -> float:
        """How long what is kept logs in at least; not above zero if it may be revoked."""
        return self.secret.overlap.total_seconds() - self.age_seconds

    @property
    def served(self) -> Kept | None:
        """What is kept, if it may be served."""
        return None if self.is_over else self.kept

    @property
    def text(self) -> SecretStr | None:
        """What is kept, however old."""
        return self.kept.value.text if self.kept else None

    @property
    def problem(self) -> str:
        """Why the nearest store that was passed over was; empty: none was."""
        return next(map(describe, self.passed_over.values()), "")

    def refresh(self, *, last: Collection[str] = ()) -> set[str]:
        """Read the stores, those of `last` after all others; which of them would not answer for others either."""
        self.read(last=last).exception()
        return {store for store, error in self.passed_over.items() if _is_of_store(error)}

    def refresh_now(self) -> None:
        """Read for a caller whose login was refused: where the nearest store has nothing newer, the next is asked."""
        before = self.kept
        self.another().exception()
        if self.kept and (before is None or self.kept.value != before.value):
            self._news.set()

    def note(self, way: str, kept: Kept) -> None:
        """A value was given in this way. Who uses which login is told by the secret with the password."""
        if self.secret.has_login:
            self.given[way] = kept.value.generation


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
        """Read every secret. A store that is silent, or knows nobody here, is waited for once: waits add up."""
        silent: set[str] = set()
        for value in self:
            silent |= value.refresh(last=silent)

    def find(self, secret_id: str) -> Value | None:
        """The value of a secret by its name or its ARN; None if it is not one of these.

        Of an ARN the end that AWS appends to a name may be left out, and the last part of a name with a hyphen is no
        such end
        (https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen).
        """
        found, arn = self._values.get(secret_id), _ARN.fullmatch(secret_id)
        if found or arn is None:
            return found
        names = (arn["name"], _RANDOM_END.sub("", arn["name"]))
        named = next((self._values[name] for name in names if name in self._values), None)
        # The account is known where the AWS store has shown the value.
        shown = named.kept.value.arn if named and named.kept else ""
        is_elsewhere = named and (
            arn["region"] != named.secret.region or not (shown or secret_id).startswith(arn["place"])
        )
        return None if is_elsewhere else named

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
    return f"{error.name}: {error}" if isinstance(error, LockstepError) else type(error).__name__


def _is_of_store(error: Exception) -> bool:
    """Whether it is no matter of one secret: the store is silent, or who asks has no identity there."""
    problem = getattr(error.__cause__, "problem", None)
    return isinstance(error, StoreUnreachableError) or problem not in _OF_ONE_SECRET


def reader_of(store: Store) -> ReadText:
    """How secrets are read from a store, with the identity that its cloud gives this process."""
    if isinstance(store, AwsStore):
        return aws_texts(region=store.region, store=store.name)
    return vault_texts(
        region=store.region,
        compartment_id=store.compartment_id,
        vault_id=store.vault_id,
        store=store.name,
    )
