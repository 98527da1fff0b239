"""Two builds whose formats differ, on one live credential (protocol R10, I1, I8).

The older one stands for the edition before an upgrade. At every boundary what each store serves logs in everywhere.
"""

import json
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from lockstep.audit.confirmed import Verdict
from lockstep.audit.verify import Verification, verify
from lockstep.client.cache import decode
from lockstep.protocol.errors import LockstepError, NewerFormatError, SecretMalformedError
from lockstep.protocol.model import Strategy
from lockstep.protocol.workers import one_after_the_other
from lockstep.stores.contents import decode_app_user, require_known_format
from tests.proof.memory_observer import InstantObserver
from tests.support import world as w
from tests.support.builds import NEWER, THIS, build
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed

CHANGES = 20
STRATEGIES = pytest.mark.parametrize("strategy", list(Strategy))


@dataclass
class Day:
    """A credential, and the builds that run on it in turn."""

    world: MemoryWorld
    ids: "count[int]" = field(default_factory=lambda: count(1))

    def run(self, written: int, *, runner: str, dies: int = 10**6) -> str:
        """One run of a build, at the next trigger; its outcome, the error's name, or after which change it died."""
        self.world.clock.sleep(w.INTERVAL_SECONDS)
        with build(NEWER):
            observer = InstantObserver(self.world)

        def look(boundary: str) -> None:
            with build(NEWER):
                observer.look(boundary)

        death = w.Death(dies, look)
        w.at_every_boundary(self.world, death)
        try:
            with build(written):
                return w.rotate(self.world, f"run-{next(self.ids)}", runner=runner, force=True).outcome
        except w.Killed:
            return death.boundary
        except LockstepError as e:
            return type(e).__name__
        finally:
            w.undisturbed(self.world)

    def in_sync(self) -> None:
        with build(NEWER):
            w.assert_in_sync(self.world)
            w.assert_on_record(self.world)


def _day(strategy: Strategy) -> Day:
    day = Day(w.make_world(strategy=strategy))
    assert [day.run(THIS, runner=runner) for runner in ("aws", "oci")] == ["rotated", "rotated"]
    return day


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


@STRATEGIES
@pytest.mark.parametrize("runner", ["aws", "oci"])
def test_an_older_build_leaves_alone_what_a_newer_one_left(strategy: Strategy, runner: str) -> None:
    rotated = 0
    for at in count():
        day = _day(strategy)
        died = day.run(NEWER, runner="aws", dies=at)
        before, has_claimed = _all(day.world), day.world.lock.format == NEWER
        outcome = day.run(THIS, runner=runner)
        assert outcome == ("NewerFormatError" if has_claimed else "rotated"), died
        assert not has_claimed or _all(day.world) == before, died
        assert day.world.lock.record.holder is None
        assert day.run(NEWER, runner=runner) == "rotated", died
        day.in_sync()
        rotated += outcome == "rotated"
        if died == "rotated":
            break
    assert at >= CHANGES
    assert 0 < rotated < at / 2


# Formats


WHERE = {"store": "aws", "secret": "multi-cloud/app_user"}
LOGIN = {"username": "app", "password": "hunter2"}


def _texts(world: MemoryWorld) -> list[dict[str, Any]]:
    return [
        json.loads(text)
        for store in world.stores.values()
        for secret in store._secrets.values()
        for version, text in secret.versions.items()
        if version.startswith("generation-")
    ]


@pytest.mark.parametrize("written", [THIS, NEWER])
def test_record_secrets_and_entries_name_the_format_of_their_build(written: int) -> None:
    world = w.make_world()
    with build(written):
        w.rotate(world, "run-1")
    assert world.lock.format == written
    assert [text["format"] for text in _texts(world)] == [written, written, str(written), str(written)]
    assert json.loads(world.audit_logs["aws"].entries[1][0])["chain"]["format"] == written


@pytest.mark.parametrize(
    "document",
    [{**LOGIN, "format": NEWER}, {**LOGIN, "format": str(NEWER)}, {"format": NEWER, "login": "elsewhere"}],
)
def test_a_newer_secret_is_refused_whatever_it_looks_like(document: dict[str, Any]) -> None:
    with pytest.raises(NewerFormatError, match=f"format-{NEWER}.*Upgrade") as caught:
        require_known_format(json.dumps(document), **WHERE)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("format_", [None, 1, "1", True, 9.5])
def test_a_secret_without_a_newer_format_is_read(format_: object) -> None:
    text = json.dumps({**LOGIN, **({} if format_ is None else {"format": format_})})
    require_known_format(text, **WHERE)
    assert decode_app_user(text, **WHERE)[0]


def test_an_application_reads_the_login_of_a_newer_build() -> None:
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
    world = w.make_world()
    w.rotate(world, "run-1")
    with build(NEWER):
        w.rotate_again(world, "run-2")
        [found] = _verified(world)
        assert (found.problems, len(found.entries)) == ([], 2)
    [found] = _verified(world)
    assert found.verdict is Verdict.UNREADABLE
    assert found.unreadable.startswith("NewerFormatError")


def test_what_only_says_that_it_is_of_a_newer_format_is_a_problem() -> None:
    world = w.make_world()
    w.rotate(world, "run-1")
    log = world.audit_logs["aws"]
    with build(NEWER):
        other = sealed({"time": 0}, signer=MemorySigner("another-key"))
    log.put(2, other.body, other.metadata)
    w.rotate_again(world, "run-2")
    [found] = _verified(world)
    assert found.verdict is Verdict.NOT_VERIFIED
    assert [p.first for p in found.problems] == [2]


def _verified(world: MemoryWorld) -> list[Verification]:
    log = world.audit_logs["aws"], world.signers["aws"]
    return verify(world.credential.id, [log], side_by_side=one_after_the_other)
