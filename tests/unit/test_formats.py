"""What a newer build wrote is refused, and nothing else (protocol R10, E12)."""

import json
from typing import Any

import pytest

from lockstep.audit.verify import Verdict, Verification, verify
from lockstep.client import decode
from lockstep.protocol.errors import NewerFormatError, SecretMalformedError
from lockstep.protocol.workers import one_after_the_other
from lockstep.stores.contents import decode_app_user, require_known_format
from tests.support.builds import NEWER, THIS, build
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.unit.harness import activates, loses_the_lock_table, rotate, rotate_again

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
    world = MemoryWorld.create()
    with build(written):
        rotate(world, "run-1")
    assert world.lock.format == written
    assert [text["format"] for text in _texts(world)] == [written, written, str(written), str(written)]
    assert json.loads(world.audit_logs["aws"].entries[1][0])["chain"]["format"] == written


@pytest.mark.parametrize(
    "document",
    [
        {**LOGIN, "format": NEWER},
        {**LOGIN, "format": str(NEWER)},
        {"format": NEWER, "login": "elsewhere"},
    ],
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
    with pytest.raises(NewerFormatError):
        decode(json.dumps({"login": {}, "format": NEWER}), **WHERE)
    with pytest.raises(SecretMalformedError):
        decode(json.dumps({"login": {}, "format": THIS}), **WHERE)


def test_a_secret_of_a_newer_build_is_not_written_over_where_the_lock_table_was_lost() -> None:
    world = MemoryWorld.create()
    with build(NEWER):
        rotate(world, "run-1")
    loses_the_lock_table(world)
    activates(world)
    before = [store.current_text("app_user") for store in world.stores.values()]
    with pytest.raises(NewerFormatError):
        rotate_again(world, "run-2")
    assert [store.current_text("app_user") for store in world.stores.values()] == before
    assert world.lock.record.claim is None


def test_a_chain_that_two_builds_wrote_is_verified_by_the_newer_one_alone() -> None:
    world = MemoryWorld.create()
    rotate(world, "run-1")
    with build(NEWER):
        rotate_again(world, "run-2")
        [found] = _verified(world)
        assert (found.problems, len(found.entries)) == ([], 2)
    [found] = _verified(world)
    assert found.verdict is Verdict.UNREADABLE
    assert found.unreadable.startswith("NewerFormatError")


def test_what_only_says_that_it_is_of_a_newer_format_is_a_problem() -> None:
    world = MemoryWorld.create()
    rotate(world, "run-1")
    log = world.audit_logs["aws"]
    with build(NEWER):
        other = sealed({"time": 0}, signer=MemorySigner("another-key"))
    log.put(2, other.body, other.metadata)
    rotate_again(world, "run-2")
    [found] = _verified(world)
    assert found.verdict is Verdict.NOT_VERIFIED
    assert [p.first for p in found.problems] == [2]


def _verified(world: MemoryWorld) -> list[Verification]:
    log = world.audit_logs["aws"], world.signers["aws"]
    return verify(world.credential.id, [log], world.lock.record, side_by_side=one_after_the_other)
