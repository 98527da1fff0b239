"""The ports of the model: they answer a shipped step from a record, and stop it at the first call without an answer."""

import ast
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from msgspec import structs

from functions.apply_db.replication import PATIENCE_SECONDS
from lockstep.audit.chain import Sealed, seal
from lockstep.audit.entry import ChainEnd
from lockstep.databases.base import AlternatingUsers, StagingStrategy
from lockstep.databases.mariadb import _DualPassword as MariaDbDualPassword
from lockstep.databases.mysql import DualPassword, MySqlAccount
from lockstep.protocol.errors import LockstepError, LostCompareAndSetError, SecretMalformedError
from lockstep.protocol.model import (
    Claim,
    Credential,
    CredentialValue,
    LockRecord,
    SecretStr,
    StoredValue,
    StoreVersions,
    Strategy,
)
from lockstep.protocol.model import Login as RealLogin
from lockstep.protocol.ports import Pending, StillOurs
from lockstep.protocol.workers import one_after_the_other
from lockstep.stores.credential import CredentialStore, Ports, Stores
from sandbox.wire import the_last_first
from tests.proof import model_world as model
from tests.support.memory import FakeClock, MemoryAuditLog, MemorySigner, make_plan

_SLOTS = ("primary", "secondary")
STREAM, SIGNER = "aws", MemorySigner("model")


class Suspended(BaseException):
    """The step has made a call that has no answer yet; nothing in the code under test may catch this."""

    def __init__(self, call: model.Call) -> None:
        super().__init__()
        self.call = call


class Invocation(NamedTuple):
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
    replies: tuple[model.Reply, ...]


class Replay:
    """The ports of one runner.

    Args:
        engines: Of the databases.
        runner: `aws`, or `oci`, which makes the calls that do not depend on each other the other way round.
        has_host: Whether the last database has a verify host.

    Attributes:
        ports: What the steps get.
        invocation: The present one.
        claim: What it has claimed or was given.
        looked_at: The slots of the stores that it has read.
        highest: The highest generation in the record that it has read.
    """

    invocation: Invocation
    claim: Claim | None
    looked_at: dict[str, tuple[model.Value, ...]]
    highest: int

    def __init__(self, engines: tuple[str, ...], runner: str, *, has_host: bool) -> None:
        self.runner = runner
        alternating = "postgresql" in engines
        side_by_side = one_after_the_other if runner == "aws" else the_last_first
        self._log = MemoryAuditLog(STREAM)
        self.ports = Ports(
            runner=runner,
            credential=_credential(
                Strategy.ALTERNATING_USERS if alternating else Strategy.DUAL_PASSWORD, len(engines)
            ),
            stores=Stores([ModelStore(self, name) for name in model.STORES], side_by_side=side_by_side),
            databases={n: ModelDatabase(self, n, e) for n, e in zip(model.DATABASES, engines, strict=False)},
            side_by_side=side_by_side,
            lock=cast("Any", _Lock(self)),
            audit_log=self._log,
            signer=SIGNER,
            clock=_Clock(model.NOW),
            passwords=cast("Any", self),
        )
        if has_host:
            last = list(self.ports.databases.values())[-1]
            cast("Any", last).replicas = (_Host(last.name, partial(self.ask, last.name), self.modelled),)

    def begin(self, invocation: Invocation) -> None:
        """Answer the calls of this invocation from now on."""
        self.invocation, self.claim, self.looked_at, self.highest = invocation, invocation.claim, {}, 0
        self._left = list(invocation.replies)
        cast("_Clock", self.ports.clock).begin()
        self._staged: dict[int, tuple[model.Login, int]] | None = None
        # The model has no audit log: the entry of this run is there already.
        self._log.entries = {1: (self.own_entry.body, self.own_entry.metadata)}

    @property
    def own_entry(self) -> Sealed:
        """The entry of this run."""
        return _entry_of(str(self.invocation.maker[0]))

    def ask(self, to: str, op: str, *args: model.Reply, **named: model.Reply) -> model.Reply:
        """The next answer; the step stops where there is none."""
        if not self._left:
            raise Suspended(model.Call(to, op, args, tuple(named.items())))
        reply = self._left.pop(0)
        if isinstance(reply, type) and issubclass(reply, LockstepError):
            raise reply
        return reply

    def staged(self, generation: int) -> tuple[model.Login, int] | None:
        """The value of a generation that was claimed before this step began, and who claimed it.

        It never changes: one call reads all.
        """
        if self._staged is None:
            self._staged = dict(self.ask(model.STORES[0], "versions"))
        return self._staged.get(generation)

    def real(self, login: model.Login) -> RealLogin:
        """The login as the shipped code has it."""
        return RealLogin(self.ports.credential.usernames[login.user], SecretStr(repr(login.password)))

    def modelled(self, login: RealLogin) -> model.Login:
        """The login as the model has it."""
        user = self.ports.credential.usernames.index(login.username)
        return model.Login(user, _password(login.password.reveal()))

    def new_password(self, _policy: object) -> SecretStr:
        """A password, named by its maker."""
        assert self.claim
        return SecretStr(repr((self.claim.generation, *self.invocation.maker)))


@cache
def _credential(strategy: Strategy, databases: int) -> Credential:
    # One digest for all: what the plans differ in is not what the model is about.
    plan = make_plan(strategy=strategy, databases=databases)
    return structs.replace(plan.credentials[0], plan_digest=model.DIGEST)


@cache
def _entry_of(run: str) -> Sealed:
    of, end = _credential(Strategy.DUAL_PASSWORD, 2).id, ChainEnd(after=None, seq=1)
    return seal({"time": 0}, end, credential_id=of, stream=STREAM, signer=SIGNER, rotation_id=run)


@cache
def _password(text: str) -> tuple[int, ...]:
    return ast.literal_eval(text) if text else model.UNKNOWN


class _Clock(FakeClock):
    """Time does not pass in the model; what waits for a verify host tries once more, and then its time is over."""

    def begin(self) -> None:
        """An invocation begins."""
        self._elapsed_seconds = 0.0

    def sleep(self, seconds: float) -> None:
        """Only the patience of who waits ends."""
        self._elapsed_seconds += max(seconds, PATIENCE_SECONDS)


def _version(value: model.Value) -> str:
    """A version id that contains the value."""
    if value.login is None:
        return _TEXT
    return ".".join(map(str, (value.generation, value.login.user, *value.login.password)))


_TEXT = "a text that is no credential"


def _valued(version: str) -> model.Value:
    if version == _TEXT:
        return model.Value(0, None)
    generation, user, *password = map(int, version.split("."))
    return model.Value(generation, model.Login(user, tuple(password)))


def claim_id(run: int) -> str | None:
    """The id of the claim that a text names."""
    return str(run) if run else None


class ModelStore(CredentialStore):
    """A store of the model, which keeps no secret."""

    def __init__(self, replay: Replay, name: str) -> None:
        self._replay = replay
        self._name = name
        self.ask = partial(replay.ask, name)

    def read_current(self) -> StoredValue:
        slots = self._replay.looked_at[self.name] = self.ask("read_current")
        value = max(slots, key=lambda v: v.generation)
        return StoredValue(
            login=self._replay.real(value.login) if value.login else None,
            generation=value.generation,
            blob_generation=value.generation,
            version=_version(value),
            malformed=None if value.login else SecretMalformedError(store=self.name),
        )

    def read_version(self, version: str) -> CredentialValue | None:
        value = _valued(version)
        return CredentialValue(value.generation, self._replay.real(value.login)) if value.login else None

    def read_generation(self, generation: int) -> CredentialValue | None:
        step = self._replay.invocation.step
        if step == "Audit":
            return None
        is_new = step == "Generate" and generation > self._replay.highest
        found = self.ask("read_generation", generation) if is_new else self._replay.staged(generation)
        return self._known(generation, *found) if found else None

    def lacks_keys(self, _generation: int) -> bool:
        return False

    def version_of(self, generation: int) -> str:
        """The version of a generation that this invocation has read."""
        is_named = self._replay.invocation.step in {"Generate", "ApplyDb"}
        found = self._replay.staged(generation) if is_named else None
        return _version(model.Value(generation, found[0])) if found else "v"

    def _known(self, generation: int, login: model.Login, claimed_by: int) -> CredentialValue:
        return CredentialValue(generation, self._replay.real(login), claim_id(claimed_by))

    def prepare(self, _generation: int, *, is_new: bool = False) -> Callable[[CredentialValue], Pending]:
        return partial(self._put, self._replay.looked_at.get(self.name) if is_new else None)

    def _put(self, looked_at: tuple[model.Value, ...] | None, value: CredentialValue) -> Pending:
        slot = model.staging_slot(looked_at) if looked_at else None
        run, seen = int(value.claim_id or 0), ""
        login, by, is_new = self.ask("stage", value.generation, self._replay.modelled(value.login), run, slot)
        if looked_at and slot is not None and is_new:
            seen = f"{slot}:{_version(looked_at[slot])}"
        return Pending(
            value=self._known(value.generation, login, by),
            seen=StoreVersions(store=self.name, app_user=seen, connection_blob=""),
        )

    def prepare_promotion(
        self, generation: int, *, seen: StoreVersions | None = None
    ) -> Callable[[StillOurs], StoreVersions]:
        return partial(self._promote_as, generation, seen.app_user if seen else "")

    def _promote_as(self, generation: int, seen: str, still_ours: StillOurs) -> StoreVersions:
        if not (seen and self._promoted_from(generation, seen)):
            found = self.ask("describe", generation)
            still_ours()
            if found:
                self.ask("promote", generation, found)
        return StoreVersions(store=self.name, app_user="v", connection_blob="v")

    def _promoted_from(self, generation: int, seen: str) -> bool:
        slot, _, version = seen.partition(":")
        try:
            self.ask("promote_from", generation, int(slot), _valued(version))
        except LostCompareAndSetError:
            return False
        return True

    def shows(self, _promoted: StoreVersions) -> bool:
        return True

    def prune(self) -> int:
        return 0


class _Lock:
    """The lock of a run, which begins with it. The model has no audit log: a record names the run's own entry."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def __getattr__(self, op: str) -> Callable[..., model.Reply]:
        return partial(self._called, op)

    def _called(self, op: str, *args: model.Reply, entry: object = None, **named: model.Reply) -> model.Reply:
        del entry
        replay, step = self._replay, self._replay.invocation.step
        if op == "read" and step.startswith("Audit"):
            return self._with_heads(LockRecord(credential_id=""))
        if op in ("claim", "require"):
            replay.claim = args[1]
        # A call is hashable.
        if op == "claim":
            named["served"] = tuple(sorted(named["served"]))
        reply = replay.ask(model.LOCK, op, *args, **named)
        if op == "read":
            replay.highest = reply.highest_generation
        return self._with_heads(reply) if (op, step) == ("require", "Audit") else reply

    def _with_heads(self, record: LockRecord) -> LockRecord:
        return replace(record, heads={STREAM: self._replay.own_entry.stored.head})


class _Host:
    """The verify host of a database of the model."""

    def __init__(
        self,
        database: str,
        ask: Callable[..., model.Reply],
        modelled: Callable[[RealLogin], model.Login],
    ) -> None:
        self.name, self._ask, self._modelled = f"{database}@host", ask, modelled

    def accepts(self, login: RealLogin) -> bool:
        return bool(self._ask("host_accepts", self._modelled(login)))


class ModelDatabase:
    """A `Database` of the model, with the shipped stagers. Its rotation user is always let in."""

    plaintext = False
    admin = "rotator"
    replicas: tuple[Any, ...] = ()

    def __init__(self, replay: Replay, name: str, engine: str) -> None:
        self._replay = replay
        self.name = name
        self._engine = engine
        self._altered = model.Login(0, model.UNKNOWN)
        self._ask = partial(replay.ask, name)

    def accepts(self, login: RealLogin) -> bool:
        return bool(self._ask("accepts", self._replay.modelled(login)))

    def admin_login(self) -> RealLogin:
        return RealLogin(self.admin, SecretStr(""))

    @contextmanager
    def exclusive(self, admin: RealLogin | None = None) -> Iterator[Any]:
        assert admin
        self.lock()
        shipped = self._stager()
        yield SimpleNamespace(
            stage=shipped.stage,
            retire=shipped.retire,
            recorded=shipped.recorded,
            takes_refusals_back=self._engine == "mariadb",
            accepts_after_all=lambda _login: False,  # A refusal is never anything but a wrong password.
        )

    def lock(self) -> None:
        """Take the advisory lock."""
        self._ask("exclusive")

    def _stager(self) -> StagingStrategy:
        """The shipped stager of the engine, on a session of the model."""
        credential, session = self._replay.ports.credential, cast("Any", self)
        match self._engine:
            case "mysql":
                account = _MySqlAccount(session, lambda _n: b"")
                return DualPassword(account, credential.usernames[0], self.accepts)
            case "mariadb":
                return MariaDbDualPassword(session)
        return AlternatingUsers(credential, self.name, self._set_only_password, lambda _n: b"")

    def _set_only_password(self, login: RealLogin) -> None:
        self._ask("set_only_password", self._replay.modelled(login))

    # A MySQL session.

    def run(self, sql: str, username: str, *values: str) -> tuple[str] | None:
        if sql.startswith("SELECT"):
            return (json.dumps({"lockstep": dict(zip(_SLOTS, self._ask("recorded"), strict=True))}),)
        record = None
        if sql.endswith("ATTRIBUTE %s"):
            kept = json.loads(values[-1])["lockstep"]
            record = tuple(kept[slot] for slot in _SLOTS)
        if "DISCARD OLD PASSWORD" in sql:
            self._ask("discard", self._altered, record)
        else:
            self._altered = self._replay.modelled(RealLogin(username, SecretStr(values[0])))
            self._ask("alter", self._altered, "RETAIN CURRENT PASSWORD" in sql, record)
        return None

    # A MariaDB account.

    def set_passwords(self, username: str, *passwords: SecretStr) -> None:
        self._ask("set_passwords", *(self._replay.modelled(RealLogin(username, p)) for p in passwords))

    def set_only_password(self, login: RealLogin) -> None:
        self.set_passwords(login.username, login.password)


class _MySqlAccount(MySqlAccount):
    """The shipped account, with the password in place of its verifier."""

    def _verifier(self, login: RealLogin, _plugin: str) -> str:
        return login.password.reveal()
