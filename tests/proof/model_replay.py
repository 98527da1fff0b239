"""Holds the programs of the model to the shipped steps, call by call.

The shipped step runs against ports that answer from what a program was told, and stop it at the first call that was not
answered. That call, or what the step returns or raises, has to be the program's. The statements of each strategy are
those of the shipped drivers as well.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.databases.base import AlternatingUsers
from lockstep.databases.mariadb import _DualPassword as MariaDbDualPassword
from lockstep.databases.mysql import DualPassword
from lockstep.errors import LockstepError, PasswordRefusedByPolicyError
from lockstep.messages import (
    ApplyRequest,
    CandidateRef,
    GenerateRequest,
    ProbeRequest,
    ProbeResult,
    Probes,
    RetireRequest,
    RotatedRun,
    Rotation,
    Staged,
    UpdateRequest,
)
from lockstep.model import (
    ChainHead,
    Claim,
    Credential,
    CredentialValue,
    Lease,
    LockRecord,
    SecretStr,
    StoredValue,
    Strategy,
)
from lockstep.model import Login as RealLogin
from lockstep.ports import Database, Ports, Stager, Store
from lockstep.stores import Stores
from tests.proof.model_process import Process
from tests.proof.model_programs import Protocol
from tests.proof.model_world import DATABASES, LOCK, NOBODY_KNOWS, STORES, Call, Login, Reply, Run, Value
from tests.support.memory import make_plan

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@cache
def _credential(strategy: Strategy) -> Credential:
    return make_plan(strategy=strategy).credentials[0]


class Suspended(BaseException):
    """The step has made a call that nobody answered; nothing in the code under test may catch this."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


class Replay:
    """One invocation of a shipped step, told what a process of the model was told."""

    def __init__(self, protocol: Protocol, process: Process, step: str, claim: Claim | None) -> None:
        self.step = step
        self._left = list(process.replies)
        self._process = process
        self._claim = claim
        self._logins: dict[int, Login | None] = {}
        alternating = "postgresql" in protocol.engines
        credential = _credential(Strategy.ALTERNATING_USERS if alternating else Strategy.DUAL_PASSWORD)
        self.usernames = credential.usernames
        databases = {
            name: _Database(self, name, engine)
            for name, engine in zip(DATABASES, protocol.engines, strict=True)
        }
        self.ports = Ports(
            runner="aws",
            credential=credential,
            stores=Stores([cast("Store", _Store(self, name)) for name in STORES]),
            databases=cast("dict[str, Database]", databases),
            lock=cast("Any", _Lock(self)),
            audit_log=cast("Any", _AuditLog()),
            signer=cast("Any", _Signer()),
            clock=cast("Any", _Clock()),
            passwords=cast("Any", _Passwords(self)),
        )

    @property
    def run(self) -> Run:
        """Whose invocation it is."""
        return self._process.run

    def ask(self, call: Call) -> Reply:
        """The next answer; the step stops where there is none."""
        if call.to == LOCK and call.op in ("claim", "require"):
            self._claim = call.args[1]
        if not self._left:
            raise Suspended(call)
        reply = self._left.pop(0)
        if isinstance(reply, type) and issubclass(reply, LockstepError):
            raise reply(**({"code": 1} if reply is PasswordRefusedByPolicyError else {}))
        return reply

    def login(self, generation: int) -> Login | None:
        """What the model reads in one call at the start of ApplyDb: staged values never change."""
        claim = self._claim
        assert claim
        if not self._logins:
            previous = claim.previous_generation if self.step == "apply" else None
            asked = (claim.generation, claim.base_generation, previous)
            found = self.ask(Call(STORES[0], "logins", asked))
            self._logins = {g: value for g, value in zip(asked, found, strict=True) if g is not None}
        return self._logins[generation]

    def new_password(self) -> SecretStr:
        """The password that the model knows by who makes it."""
        assert self._claim
        made = (self._claim.generation, self.run.number, self._process.twin, self._process.attempt)
        return SecretStr(repr(made))

    def real(self, login: Login | None) -> RealLogin | None:
        """As the shipped code knows it."""
        return login and RealLogin(self.usernames[login.user], SecretStr(repr(login.password)))

    def modelled(self, login: RealLogin) -> Login:
        """As the model knows it."""
        text = login.password.reveal()
        password = ast.literal_eval(text) if text else NOBODY_KNOWS
        return Login(self.usernames.index(login.username), password)

    def version(self, login: Login) -> str:
        """A version's name that says what is in it."""
        return ".".join(map(str, (login.user, *login.password)))


class _Store:
    def __init__(self, replay: Replay, name: str) -> None:
        self._replay = replay
        self.name = name
        self._found: dict[int, Login | None] = {}

    def read_current(self) -> StoredValue:
        value: Value = self._replay.ask(Call(self.name, "read_current"))
        return StoredValue(
            login=self._replay.real(value.login),
            generation=value.generation,
            blob_generation=value.generation,
            version=self._replay.version(value.login),
        )

    def read_version(self, version: str) -> RealLogin | None:
        user, *password = map(int, version.split("."))
        return self._replay.real(Login(user, tuple(password)))

    def read_generation(self, generation: int) -> CredentialValue | None:
        match self._replay.step:
            case "generate":
                found = self._replay.ask(Call(self.name, "read_generation", (generation,)))
            case "audit":
                return None
            case _:
                found = self._replay.login(generation)
        self._found[generation] = found
        login = self._replay.real(found)
        return CredentialValue(generation, login) if login else None

    def version_of(self, generation: int) -> str:
        found = self._found.get(generation)
        return self._replay.version(found) if found else "v"

    def stage(self, value: CredentialValue) -> CredentialValue:
        login = self._replay.modelled(value.login)
        standing = self._replay.real(self._replay.ask(Call(self.name, "stage", (value.generation, login))))
        assert standing
        return CredentialValue(value.generation, standing)

    def promote(self, generation: int, still_ours: Callable[[], object]) -> None:
        seen = self._replay.ask(Call(self.name, "describe", (generation,)))
        still_ours()
        if seen:
            self._replay.ask(Call(self.name, "promote", (generation, seen)))

    def serves(self, _generation: int) -> bool:
        return True

    def prune(self) -> int:
        return 0


class _Lock:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def read(self) -> LockRecord:
        if self._replay.step == "audit":
            head = ChainHead(seq=1, hash="", rotation_id=str(self._replay.run.number))
            return LockRecord(credential_id="", heads={"aws": head})
        return self._record(self._replay.ask(Call(LOCK, "read")))

    def raise_fence(self, lease: Lease) -> Lease:
        return replace(lease, fence=self._replay.ask(Call(LOCK, "raise_fence", (self._replay.run,))))

    def claim(self, _lease: Reply, claim: Claim, *, replaces: Claim | None) -> None:
        self._replay.ask(Call(LOCK, "claim", (self._replay.run, claim, replaces)))

    def require(self, _lease: Reply, claim: Claim, *, now: datetime) -> LockRecord:
        assert now
        return self._record(self._replay.ask(Call(LOCK, "require", (self._replay.run, claim))))

    def _record(self, told: tuple[Any, ...]) -> LockRecord:
        claim, current, previous, highest = told
        return LockRecord(
            credential_id="",
            claim=claim,
            current_generation=current,
            previous_generation=previous,
            highest_generation=highest,
        )


class _Database:
    plaintext = False

    def __init__(self, replay: Replay, name: str, engine: str) -> None:
        self._replay = replay
        self._engine = engine
        self.name = name
        self._altered = Login(0, NOBODY_KNOWS)

    def ask(self, op: str, *args: Reply) -> Reply:
        return self._replay.ask(Call(self.name, op, args))

    def accepts(self, login: RealLogin) -> bool:
        return bool(self.ask("accepts", self._replay.modelled(login)))

    @contextmanager
    def exclusive(self) -> Iterator[Stager]:
        self.ask("exclusive")
        yield self._stager()

    def _stager(self) -> Stager:
        match self._engine:
            case "mysql":
                return DualPassword(self.name, cast("Any", self), self.accepts)
            case "mariadb":
                return MariaDbDualPassword(cast("Any", self))
        credential = self._replay.ports.credential
        return AlternatingUsers(credential, self.name, self._set_only_password, lambda _n: b"")

    def _set_only_password(self, login: RealLogin) -> None:
        self.ask("set_only_password", self._replay.modelled(login))

    # A MySQL session.

    def run(self, sql: str, username: str, *passwords: str) -> None:
        if "DISCARD OLD PASSWORD" in sql:
            self.ask("discard", self._altered)
            return
        assert "IDENTIFIED BY" in sql
        (password,) = passwords
        self._altered = self._replay.modelled(RealLogin(username, SecretStr(password)))
        self.ask("alter", self._altered, "RETAIN CURRENT PASSWORD" in sql)

    # A MariaDB account.

    def set_passwords(self, username: str, *passwords: SecretStr) -> None:
        self.ask("set_passwords", *(self._replay.modelled(RealLogin(username, p)) for p in passwords))

    def set_only_password(self, login: RealLogin) -> None:
        self.set_passwords(login.username, login.password)


class _AuditLog:
    stream = "aws"


class _Signer:
    key_id = ""


class _Clock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class _Passwords:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def new_password(self, _policy: object) -> SecretStr:
        return self._replay.new_password()


def shipped(protocol: Protocol, process: Process, step: tuple[str, tuple[Any, ...]]) -> Reply:
    """What the shipped step does next where a process of the model stands, in the terms of `Checker.call`."""
    name, request = step
    claim = next((a for a in request if isinstance(a, Claim)), None)
    replay = Replay(protocol, process, name, claim if name != "generate" else None)
    try:
        return "returns", _result(replay, name, request)
    except Suspended as suspended:
        return suspended.call
    except PasswordRefusedByPolicyError:
        # The state machine takes a refusal for an answer.
        return ("returns", "refused") if name == "apply" else ("raises", PasswordRefusedByPolicyError)
    except LockstepError as error:
        return "raises", type(error)


def _result(replay: Replay, name: str, request: Sequence[Any]) -> Reply:
    run, ports = replay.run, replay.ports
    rotation = Rotation(
        credential_id="multi-cloud/app_user",
        rotation_id=str(run.number),
        runner="aws",
        trigger="test",
        started_at=NOW,
        fence=run.fence,
        revoke_previous=run.revokes,
    )
    match name:
        case "generate":
            probes, replaces = request
            return _generated(
                replay, GenerateRequest(rotation=rotation, probes=_probes(replay, probes), replaces=replaces)
            )
        case "probe":
            database, candidates = request
            asked = ProbeRequest(
                action="probe", rotation=rotation, database=database, candidates=_refs(replay, candidates)
            )
            return cast("ProbeResult", apply_db.run(asked, ports)).accepted
        case "apply":
            database, claim = request
            apply_db.run(ApplyRequest(rotation=rotation, claim=claim, database=database), ports)
            return "applied"
        case "retire":
            action, database, claim = request
            apply_db.run(
                RetireRequest(action=action, rotation=rotation, claim=claim, database=database), ports
            )
        case "update_secrets":
            update_secrets.run(UpdateRequest(rotation=rotation, claim=request[0]), ports)
        case "raise_fence":
            return ports.lock.raise_fence(rotation.lease).fence
        case "audit":
            asked_audit = RotatedRun(
                rotation=rotation,
                claim=request[0],
                adopted=False,
                databases=(),
                stores=(),
                promoted_at=NOW,
                revoked=(),
            )
            release = audit.run(asked_audit, ports).release
            replay.ask(Call(LOCK, "release", (run, release.current_generation, release.previous_generation)))
    return None


def _generated(replay: Replay, request: GenerateRequest) -> Reply:
    result = generate.run(request, replay.ports)
    if isinstance(result, Staged):
        return "staged", result.claim
    found = [
        (c.store, Login(int(c.version[0]), tuple(map(int, c.version.split(".")[1:]))))
        for c in result.candidates
    ]
    return "probe", tuple(found)


def _refs(replay: Replay, candidates: Sequence[tuple[str, Login]]) -> tuple[CandidateRef, ...]:
    return tuple(CandidateRef(store=store, version=replay.version(login)) for store, login in candidates)


def _probes(replay: Replay, probes: Reply) -> Probes | None:
    if probes is None:
        return None
    candidates, verdicts = probes
    return Probes(
        candidates=_refs(replay, candidates),
        databases=tuple(ProbeResult(database=name, accepted=accepted) for name, accepted in verdicts),
    )
