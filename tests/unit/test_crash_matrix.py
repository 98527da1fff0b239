"""Runs that die after any change: of one build, and of two whose formats differ.

A run that dies is finished by the next run, and locks nobody out meanwhile (protocol I1, I9). Of two builds on one live
credential, the older one stands for the edition before an upgrade (protocol R10, I8). At every boundary what each store
serves logs in everywhere.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import count, product

import pytest

from lockstep.audit.confirmed import Verdict
from lockstep.audit.verify import Verification, verify
from lockstep.client.cache import decode
from lockstep.protocol.errors import LockstepError, NewerFormatError, SecretMalformedError
from lockstep.protocol.model import Strategy
from lockstep.protocol.workers import one_after_the_other
from lockstep.stores.contents import decode_app_user, require_known_format
from tests.proof.invariants import ViolationError
from tests.proof.memory_observer import InstantObserver
from tests.support import world as w
from tests.support.builds import NEWER, THIS, build
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happened before the run that dies.

    Attributes:
        changes: The least number of changes in a run. Fewer mean that the hooks miss some.
        refusals: The most refused logins in a row.
    """

    changes: int
    prepare: Callable[[MemoryWorld], object] = lambda _world: None
    rotations: int = 2
    refusals: int = 1
    placeholder: bool = False
    stores: int = 2


def _edited_by_hand(world: MemoryWorld) -> None:
    w.edit(world.stores["aws"], w.another_login(world))


def _only_in_one_store(world: MemoryWorld) -> None:
    login = w.another_login(world)
    w.edit(world.stores["aws"], login)
    for database in world.databases.values():
        database.accounts[login.username].passwords = (login.password.reveal(),)


def _failed_over(world: MemoryWorld) -> None:
    """The last change of one database is lost: it refuses what the stores serve (protocol C5)."""
    backup = deepcopy(world.databases["db-2"].accounts)
    w.rotate(world, "third", runner="aws")
    world.databases["db-2"].accounts = backup
    world.clock.sleep(w.INTERVAL_SECONDS)


def _emergency_in_a_reconcile(world: MemoryWorld) -> None:
    _edited_by_hand(world)
    w.revokes_everything(world)


STEADY = Story(changes=25)
STORIES = {
    "steady": STEADY,
    "one store": Story(changes=22, stores=1),
    "taken over": Story(changes=20, rotations=0),
    "bootstrapped": Story(changes=18, rotations=0, placeholder=True),
    "one placeholder": Story(changes=20, rotations=0, placeholder=True, prepare=_only_in_one_store),
    "edited by hand": Story(changes=20, prepare=_edited_by_hand),
    "failed over": Story(changes=28, prepare=_failed_over, refusals=2),
    "emergency": Story(changes=40, prepare=w.revokes_everything),
    "emergency in a reconcile": Story(changes=20, prepare=_emergency_in_a_reconcile),
}


def _world(story: Story, strategy: Strategy) -> MemoryWorld:
    world = w.make_world(
        stores=story.stores, strategy=strategy, placeholder=story.placeholder, rotations=story.rotations
    )
    story.prepare(world)
    return world


def _dies(world: MemoryWorld, run: str, *, at: int, runner: str = "aws") -> str:
    """Let a run die after its n-th change; return the boundary, or an empty text if it had fewer."""
    death = w.Death(at, InstantObserver(world).look)
    w.at_every_boundary(world, death)
    try:
        w.rotate(world, run, runner=runner)
    except w.Killed:
        pass
    finally:
        w.undisturbed(world)
    return death.boundary


def _survives(world: MemoryWorld, recoverer: str, *, died: str, refusals: int = 1) -> None:
    try:
        w.at_every_boundary(world, InstantObserver(world).look)
        recovered = w.rotate_again(world, "recovery", runner=recoverer)
        assert recovered.outcome == "rotated"
        w.assert_in_sync(world, recovered.generation)
        base, emergency = w.login_of(world, recovered.generation or 0), world.lock.record.is_revoking
        following = w.rotate_again(world, "following", runner="aws")
        w.undisturbed(world)
        _is_whole(world, following.generation or 0, set() if emergency else {w.shown(base)}, refusals)
    except (AssertionError, LockstepError, ViolationError) as e:
        raise AssertionError(f"died {died}") from e


def _is_whole(world: MemoryWorld, generation: int, base: set[tuple[str, str]], refusals: int) -> None:
    w.assert_in_sync(world, generation)
    assert not world.lock.record.is_revoking
    for database, let_in in w.known_logins(world).items():
        live = {w.shown(w.login_of(world, generation)), *base}
        assert let_in == live, f"I9: {database} accepts a revoked login, or refuses a live one"
        assert world.databases[database].refusals.most <= refusals, "refused logins in a row"
    w.assert_on_record(world)
    recorded = [w.rotation_of(e) for stream in world.audit_logs for e in w.entries(world, stream)]
    assert recorded.count("recovery") == recorded.count("following") == 1


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_run_that_dies_after_any_change_is_finished_by_the_next(story: Story, strategy: Strategy) -> None:
    for at in count():
        world = _world(story, strategy)
        boundary = _dies(world, "dies", at=at)
        if not boundary:
            break
        recoverer = ("aws", "oci")[at % 2]
        _survives(world, recoverer, died=f"{boundary} ({at})", refusals=story.refusals)
    assert at >= story.changes


@pytest.mark.parametrize("strategy", list(Strategy))
def test_two_runs_that_die_in_a_row_are_finished_by_the_next_run(strategy: Strategy) -> None:
    # The strides have no common factor, so every kind of boundary of one run meets many of the other.
    for first, step in product(range(0, STEADY.changes, 3), range(0, STEADY.changes, 5)):
        world, second = _world(STEADY, strategy), step + first % 5
        died = _dies(world, "dies", at=first)
        world.clock.sleep(w.INTERVAL_SECONDS)
        died += f", then {_dies(world, 'dies-too', at=second, runner='oci')}"
        _survives(world, "aws", died=died)


CHANGES = 20


def ran(world: MemoryWorld, written: int, *, runner: str, dies: int = 10**6) -> str:
    """One run of a build, at the next trigger; its outcome, the error's name, or after which change it died."""
    world.clock.sleep(w.INTERVAL_SECONDS)
    with build(NEWER):
        observer = InstantObserver(world)

    def look(boundary: str) -> None:
        with build(NEWER):
            observer.look(boundary)

    death = w.Death(dies, look)
    w.at_every_boundary(world, death)
    try:
        with build(written):
            return w.rotate(world, f"run-{world.lock.record.fence}", runner=runner, force=True).outcome
    except w.Killed:
        return death.boundary
    except LockstepError as e:
        return type(e).__name__
    finally:
        w.undisturbed(world)


def _all(world: MemoryWorld) -> object:
    """Everything that a run can change, but for the lease and the fence."""
    return (
        replace(world.lock.record, holder=None, expires_at=None, fence=0),
        {
            s.name: {k: (v.current, dict(v.versions)) for k, v in s._secrets.items()}
            for s in world.stores.values()
        },
        {d.name: {u: a.passwords for u, a in d.accounts.items()} for d in world.databases.values()},
        {name: dict(log.entries) for name, log in world.audit_logs.items()},
    )


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("runner", ["aws", "oci"])
def test_an_older_build_leaves_alone_what_a_newer_one_left(strategy: Strategy, runner: str) -> None:
    rotated = 0
    for at in count():
        world = w.make_world(strategy=strategy)
        assert [ran(world, THIS, runner=of) for of in ("aws", "oci")] == ["rotated", "rotated"]
        died = ran(world, NEWER, runner="aws", dies=at)
        before, has_claimed = _all(world), world.lock.format == NEWER
        outcome = ran(world, THIS, runner=runner)
        assert outcome == ("NewerFormatError" if has_claimed else "rotated"), died
        assert not has_claimed or _all(world) == before, died
        assert world.lock.record.holder is None
        assert ran(world, NEWER, runner=runner) == "rotated", died
        with build(NEWER):
            w.assert_in_sync(world)
            w.assert_on_record(world)
        rotated += outcome == "rotated"
        if died == "rotated":
            break
    assert at >= CHANGES
    assert 0 < rotated < at / 2


# Formats


WHERE = {"store": "aws", "secret": "multi-cloud/app_user"}
LOGIN = {"username": "app", "password": "hunter2"}


@pytest.mark.parametrize("written", [THIS, NEWER])
def test_record_secrets_and_entries_name_the_format_of_their_build(written: int) -> None:
    world = w.make_world()
    with build(written):
        w.rotate(world, "run-1")
    assert world.lock.format == written
    secrets = [secret for store in world.stores.values() for secret in store._secrets.values()]
    formats = [json.loads(secret.versions["generation-1"])["format"] for secret in secrets]
    assert formats == [written, written, str(written), str(written)]
    assert json.loads(world.audit_logs["aws"].entries[1][0])["chain"]["format"] == written


def test_a_newer_secret_is_refused_whatever_it_looks_like_and_any_other_is_read() -> None:
    """Applications read the login of a newer build as far as there is one."""
    for more in ({"format": NEWER}, {"format": str(NEWER)}):
        for document in ({**LOGIN, **more}, {**more, "login": "elsewhere"}):
            with pytest.raises(NewerFormatError, match=f"format-{NEWER}.*Upgrade") as caught:
                require_known_format(json.dumps(document), **WHERE)
            assert "hunter2" not in str(caught.value)
    for known in ({}, *({"format": f} for f in (1, "1", True, 9.5))):
        text = json.dumps({**LOGIN, **known})
        require_known_format(text, **WHERE)
        assert decode_app_user(text, **WHERE)[0]
    assert decode(json.dumps({**LOGIN, "format": NEWER}), **WHERE).username == "app"
    for format_, error in ((NEWER, NewerFormatError), (THIS, SecretMalformedError)):
        with pytest.raises(error):
            decode(json.dumps({"login": {}, "format": format_}), **WHERE)


def test_a_secret_of_a_newer_build_is_not_written_over_where_the_lock_table_was_lost() -> None:
    world = w.make_world()
    with build(NEWER):
        w.rotate(world, "run-1")
    w.loses_the_lock_table(world)
    w.activates(world)
    before = [store.current_text("app_user") for store in world.stores.values()]
    with pytest.raises(NewerFormatError):
        w.rotate_again(world, "run-2")
    assert [store.current_text("app_user") for store in world.stores.values()] == before
    assert world.lock.record.claim is None


def test_a_chain_that_two_builds_wrote_is_verified_by_the_newer_one_alone() -> None:
    """What only says that it is of a newer format is a problem."""

    def verified(world: MemoryWorld) -> Verification:
        log = world.audit_logs["aws"], world.signers["aws"]
        [found] = verify(world.credential.id, [log], side_by_side=one_after_the_other)
        return found

    world = w.make_world()
    w.rotate(world, "run-1")
    with build(NEWER):
        w.rotate_again(world, "run-2")
        found = verified(world)
        assert (found.problems, len(found.entries)) == ([], 2)
    found = verified(world)
    assert found.verdict is Verdict.UNREADABLE
    assert found.unreadable.startswith("NewerFormatError")

    world = w.make_world()
    w.rotate(world, "run-1")
    with build(NEWER):
        other = sealed({"time": 0}, signer=MemorySigner("another-key"))
    world.audit_logs["aws"].put(2, other.body, other.metadata)
    w.rotate_again(world, "run-2")
    found = verified(world)
    assert (found.verdict, [p.first for p in found.problems]) == (Verdict.NOT_VERIFIED, [2])
