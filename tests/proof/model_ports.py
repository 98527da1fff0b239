"""The ports of the model: they answer a shipped step from a record, and stop it at the first call without an answer."""

import ast
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial
from typing import Any, cast

from msgspec import structs

from lockstep.audit.chain import Sealed, seal
from lockstep.audit.entry import ChainEnd
from lockstep.databases.base import AlternatingUsers, StagingStrategy
from lockstep.databases.mariadb import _DualPassword as MariaDbDualPassword
from lockstep.databases.mysql import DualPassword, MySqlAccount
from lockstep.protocol.errors import LockstepError, LostCompareAndSetError
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import (
    ChainHead,
    Claim,
    Credential,
    CredentialValue,
    Lease,
    LockRecord,
    Release,
    SecretStr,
    StoredValue,
    StoreVersions,
    Strategy,
)
from lockstep.protocol.model import Login as RealLogin
from lockstep.protocol.ports import Mac, Pending, Replica, Stager, StillOurs
from lockstep.protocol.workers import one_after_the_other
from lockstep.stores.credential import Ports, Stores
from sandbox.wire import the_last_first
from tests.proof.model_world import (
    DATABASES,
    DIGEST,
    LOCK,
    NOW,
    STORES,
    UNKNOWN,
    Call,
    Login,
    Reply,
    Value,
    describe,
    record_of,
    staging_slot,
)
from tests.support.memory import make_plan

_SLOTS = ("primary", "secondary")


class Suspended(BaseException):
    """The step has made a call that has no answer yet; nothing in the code under test may catch this."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The input of an invocation of a step.

    Attributes:
        step: The state of the state machine.
        claim: What the run has claimed or adopted before.
        maker: What names a new password: the run, its twin, its attempt.
        replies: What its calls have answered so far.
    """

    step: str
    claim: Claim | None
    maker: tuple[int, int, int]
    replies: tuple[Reply, ...]


@dataclass
class Replay:
    """The ports of one runner.

    Args:
        engines: Of the two databases.
        runner: `aws`, or `oci`, which makes the calls that do not depend on each other the other way round.
    """

    engines: tuple[str, str]
    runner: str
    ports: Ports = field(init=False)
    invocation: Invocation = field(init=False)
    claim: Claim | None = field(init=False)

    def __post_init__(self) -> None:
        alternating = "postgresql" in self.engines
        side_by_side = one_after_the_other if self.runner == "aws" else the_last_first
        databases = [ModelDatabase(self, n, e) for n, e in zip(DATABASES, self.engines, strict=True)]
        self.ports = Ports(
            runner=self.runner,
            credential=_credential(Strategy.ALTERNATING_USERS if alternating else Strategy.DUAL_PASSWORD),
            stores=Stores([ModelStore(self, name) for name in STORES], side_by_side=side_by_side),
            databases={d.name: d for d in databases},
            side_by_side=side_by_side,
            lock=_Lock(self),
            audit_log=cast("Any", _AuditLog(self)),
            signer=_Signer(),
            clock=_Clock(),
            passwords=_Passwords(self),
        )

    def begin(self, invocation: Invocation) -> None:
        """Answer the calls of this invocation from now on."""
        self.invocation = invocation
        self.claim = invocation.claim
        self._left = list(invocation.replies)
        self._staged: dict[int, tuple[Login, int]] | None = None
        self.looked_at: dict[str, tuple[Value, ...]] = {}
        self.highest = 0

    def ask(self, to: str, op: str, *args: Reply) -> Reply:
        """The next answer; the step stops where there is none."""
        if not self._left:
            raise Suspended(Call(to, op, args))
        reply = self._left.pop(0)
        if isinstance(reply, type) and issubclass(reply, LockstepError):
            raise reply
        return reply

    def staged(self, generation: int) -> tuple[Login, int] | None:
        """The value of a generation that was claimed before this step began, and who claimed it.

        It never changes: one call reads all.
        """
        if self._staged is None:
            self._staged = dict(self.ask(STORES[0], "versions"))
        return self._staged.get(generation)

    def real(self, login: Login | None) -> RealLogin | None:
        """The login as the shipped code has it."""
        return login and RealLogin(self._usernames[login.user], SecretStr(repr(login.password)))

    def modelled(self, login: RealLogin) -> Login:
        """The login as the model has it."""
        return Login(self._usernames.index(login.username), _password(login.password.reveal()))

    @property
    def _usernames(self) -> tuple[str, ...]:
        return self.ports.credential.usernames


@cache
def _credential(strategy: Strategy) -> Credential:
    # One digest for all: what the plans differ in is not what the model is about.
    return structs.replace(make_plan(strategy=strategy).credentials[0], plan_digest=DIGEST)


@cache
def _password(text: str) -> tuple[int, ...]:
    return ast.literal_eval(text) if text else UNKNOWN


def _version(generation: int, login: Login) -> str:
    """A version id that contains the value."""
    return ".".join(map(str, (generation, login.user, *login.password)))


def _valued(version: str) -> Value:
    generation, user, *password = map(int, version.split("."))
    return Value(generation, Login(user, tuple(password)))


def claim_id(run: int) -> str | None:
    """The id of the claim that a text names."""
    return str(run) if run else None


class ModelStore:
    """A `lockstep.protocol.ports.Store` of the model."""

    def __init__(self, replay: Replay, name: str) -> None:
        self._replay = replay
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def ask(self, op: str, *args: Reply) -> Reply:
        return self._replay.ask(self._name, op, *args)

    def read_current(self) -> StoredValue:
        slots: tuple[Value, ...] = self.ask("read_current")
        self._replay.looked_at[self._name] = slots
        value = max(slots, key=lambda v: v.generation)
        return StoredValue(
            login=self._replay.real(value.login),
            generation=value.generation,
            blob_generation=value.generation,
            version=_version(value.generation, value.login),
        )

    def read_version(self, version: str) -> CredentialValue | None:
        value = _valued(version)
        login = self._replay.real(value.login)
        return CredentialValue(value.generation, login) if login else None

    def read_generation(self, generation: int) -> CredentialValue | None:
        step = self._replay.invocation.step
        if step == "Audit":
            return None
        is_new = step == "Generate" and generation > self._replay.highest
        found = self.ask("read_generation", generation) if is_new else self._replay.staged(generation)
        return self._value(generation, *found) if found else None

    def lacks_keys(self, generation: int) -> bool:
        del generation
        return False

    def version_of(self, generation: int) -> str:
        """The version of a generation that this invocation has read."""
        is_named = self._replay.invocation.step in {"Generate", "ApplyDb"}
        found = self._replay.staged(generation) if is_named else None
        return _version(generation, found[0]) if found else "v"

    def _value(self, generation: int, login: Login, claimed_by: int) -> CredentialValue:
        real = self._replay.real(login)
        assert real
        return CredentialValue(generation, real, claim_id(claimed_by))

    def prepare(self, generation: int, *, is_new: bool = False) -> Callable[[CredentialValue], Pending]:
        del generation
        looked_at = self._replay.looked_at.get(self._name) if is_new else None
        return partial(self._put, looked_at)

    def stage(self, value: CredentialValue) -> Pending:
        return self.prepare(value.generation)(value)

    def _put(self, looked_at: tuple[Value, ...] | None, value: CredentialValue) -> Pending:
        slot = staging_slot(looked_at) if looked_at else None
        run = int(value.claim_id or 0)
        login, by, is_new = self.ask("stage", value.generation, self._replay.modelled(value.login), run, slot)
        seen = ""
        if looked_at and slot is not None and is_new:
            seen = f"{slot}:{_version(*looked_at[slot])}"
        return Pending(
            value=self._value(value.generation, login, by),
            seen=StoreVersions(store=self._name, app_user=seen, connection_blob=""),
        )

    def prepare_promotion(
        self, generation: int, *, seen: StoreVersions | None = None
    ) -> Callable[[StillOurs], StoreVersions]:
        return partial(self._promote, generation, seen.app_user if seen else "")

    def _promote(self, generation: int, seen: str, still_ours: StillOurs) -> StoreVersions:
        if not (seen and self._promoted_from(generation, seen)):
            found = self.ask("describe", generation)
            still_ours()
            if found:
                self.ask("promote", generation, found)
        return StoreVersions(store=self._name, app_user="v", connection_blob="v")

    def _promoted_from(self, generation: int, seen: str) -> bool:
        slot, _, version = seen.partition(":")
        try:
            self.ask("promote_from", generation, int(slot), _valued(version))
        except LostCompareAndSetError:
            return False
        return True

    def shows(self, promoted: StoreVersions) -> bool:
        del promoted
        return True

    def prune(self) -> int:
        return 0


class _Lock:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def read(self) -> LockRecord:
        if self._replay.invocation.step.startswith("Audit"):
            return LockRecord(credential_id="", heads=self._heads())
        record = record_of(self._replay.ask(LOCK, "read"))
        self._replay.highest = record.highest_generation
        return record

    def acquire(
        self,
        *,
        holder: str,
        now: datetime,
        expires_at: datetime,
        force: bool,
        due_by: datetime | None = None,
    ) -> Lease | None:
        raise NotImplementedError  # A run of the model begins with the lock.

    def claim(
        self, lease: Lease, claim: Claim, *, over: LockRecord, plan: str, served: Collection[int]
    ) -> None:
        self._replay.claim = claim
        self._replay.ask(LOCK, "claim", lease, claim, describe(over), plan, tuple(sorted(served)))

    def begin_promotion(self, lease: Lease, claim: Claim, *, now: datetime) -> LockRecord:
        assert now
        return record_of(self._replay.ask(LOCK, "begin_promotion", lease, claim))

    def require(self, lease: Lease, claim: Claim, *, promoting: bool, now: datetime) -> LockRecord:
        assert now
        self._replay.claim = claim
        record = record_of(self._replay.ask(LOCK, "require", lease, claim, promoting))
        return replace(record, heads=self._heads()) if self._replay.invocation.step == "Audit" else record

    def _heads(self) -> dict[str, ChainHead]:
        # The model has no audit log: the entry of this run is there already.
        return {_AuditLog.stream: _own_entry(str(self._replay.invocation.maker[0])).stored.head}

    def require_lease(self, lease: Lease, *, now: datetime) -> LockRecord:
        del now
        return record_of(self._replay.ask(LOCK, "require_lease", lease))

    def block(self, lease: Lease, databases: Collection[str]) -> None:
        self._replay.ask(LOCK, "block", lease, tuple(sorted(databases)))

    def release(self, lease: Lease, done: Release | None, *, entry: Recorded | None = None) -> None:
        del entry  # See `_heads`.
        self._replay.ask(LOCK, "release", lease, done)


class ModelDatabase:
    """A `Database` of the model, with the shipped stagers. Its rotation user is always let in."""

    plaintext = False
    admin = "rotator"

    def __init__(self, replay: Replay, name: str, engine: str) -> None:
        self._replay = replay
        self._engine = engine
        self._name = name
        self._altered = Login(0, UNKNOWN)

    @property
    def name(self) -> str:
        return self._name

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return ()

    def ask(self, op: str, *args: Reply) -> Reply:
        return self._replay.ask(self._name, op, *args)

    def accepts(self, login: RealLogin) -> bool:
        return bool(self.ask("accepts", self._replay.modelled(login)))

    def admin_login(self) -> RealLogin:
        return RealLogin(self.admin, SecretStr(""))

    @contextmanager
    def exclusive(self, admin: RealLogin | None = None) -> Iterator[Stager]:
        assert admin
        self.lock()
        yield _Stager(self._stager(), takes_refusals_back=self._engine == "mariadb")

    def lock(self) -> None:
        """Take the advisory lock."""
        self.ask("exclusive")

    def _stager(self) -> StagingStrategy:
        """The shipped stager of the engine, on a session of the model."""
        match self._engine:
            case "mysql":
                return DualPassword(
                    _MySqlAccount(cast("Any", self), lambda _n: b""),
                    self._replay.ports.credential.usernames[0],
                    self.accepts,
                )
            case "mariadb":
                return MariaDbDualPassword(cast("Any", self))
        credential = self._replay.ports.credential
        return AlternatingUsers(credential, self._name, self._set_only_password, lambda _n: b"")

    def _set_only_password(self, login: RealLogin) -> None:
        self.ask("set_only_password", self._replay.modelled(login))

    # A MySQL session.

    def run(self, sql: str, username: str, *values: str) -> tuple[str] | None:
        if sql.startswith("SELECT"):
            return (json.dumps({"lockstep": dict(zip(_SLOTS, self.ask("recorded"), strict=True))}),)
        record = None
        if sql.endswith("ATTRIBUTE %s"):
            kept = json.loads(values[-1])["lockstep"]
            record = tuple(kept[slot] for slot in _SLOTS)
        if "DISCARD OLD PASSWORD" in sql:
            self.ask("discard", self._altered, record)
        else:
            self._altered = self._replay.modelled(RealLogin(username, SecretStr(values[0])))
            self.ask("alter", self._altered, "RETAIN CURRENT PASSWORD" in sql, record)
        return None

    # A MariaDB account.

    def set_passwords(self, username: str, *passwords: SecretStr) -> None:
        self.ask("set_passwords", *(self._replay.modelled(RealLogin(username, p)) for p in passwords))

    def set_only_password(self, login: RealLogin) -> None:
        self.set_passwords(login.username, login.password)


class _Stager:
    """The shipped stager; in the model a refusal is never anything but a wrong password."""

    def __init__(self, staging_strategy: StagingStrategy, *, takes_refusals_back: bool) -> None:
        self.takes_refusals_back = takes_refusals_back
        self.stage = staging_strategy.stage
        self.retire = staging_strategy.retire
        self.recorded = staging_strategy.recorded

    def accepts_after_all(self, _login: RealLogin) -> bool:
        return False


class _MySqlAccount(MySqlAccount):
    """The shipped account, with the password in place of its verifier."""

    def _verifier(self, login: RealLogin, _plugin: str) -> str:
        return login.password.reveal()


class _AuditLog:
    stream = "aws"

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def look(self, number: int) -> Mapping[str, str] | None:
        entry = _own_entry(str(self._replay.invocation.maker[0]))
        return entry.metadata if number == entry.stored.number else None


class _Signer:
    def prepare(self) -> None:
        pass

    def __init__(self) -> None:
        self.orders = self

    def sign(self, digest: bytes) -> Mac:
        return Mac(key_id="", value=digest)

    def verify(self, digest: bytes, mac: Mac) -> bool:
        return digest == mac.value

    def rank(self, _key_id: str) -> tuple[int, int]:
        return 0, 0


@cache
def _own_entry(rotation_id: str) -> Sealed:
    return seal(
        {"time": 0},
        ChainEnd(after=None, seq=1),
        credential_id=_credential(Strategy.DUAL_PASSWORD).id,
        stream=_AuditLog.stream,
        signer=_Signer(),
        rotation_id=rotation_id,
    )


class _Clock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        del seconds


class _Passwords:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def new_password(self, _policy: object) -> SecretStr:
        """The password, named by its maker."""
        assert self._replay.claim
        return SecretStr(repr((self._replay.claim.generation, *self._replay.invocation.maker)))
