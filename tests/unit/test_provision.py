"""What becomes of each secret of a fleet, at which pace, and how the work goes on after trouble."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lockstep.operate.secrets import (
    AT_FIRST,
    FIRST_TEXT,
    Action,
    Decision,
    Outcome,
    Pace,
    RingTerms,
    StackTerms,
    Wanted,
    Work,
    in_aws,
    ring_terms,
    stack_terms,
    wanted,
)
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.errors import (
    LockstepError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.protocol.model import Engine
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from lockstep.protocol.workers import one_after_the_other
from lockstep.stores.contents import decode_app_user, extras_in
from sandbox import plans

KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
RINGS, VAULT = "ocid1.compartment.oc1..rings", "ocid1.vault.oc1.eu.aaaa"
RING = RingTerms(
    region="eu-frankfurt-1",
    compartment_id=RINGS,
    vault_id=VAULT,
    key_id="ocid1.key.oc1.eu.key",
    freeform_tags={"lockstep-stack": "lockstep"},
)


# Contents


def test_the_first_content_is_a_placeholder_and_leaves_nothing_to_carry_on() -> None:
    assert decode_app_user(FIRST_TEXT, store="s", secret="a") == (None, 0)
    extras = extras_in(FIRST_TEXT)
    assert extras is not None
    assert not extras


# Settings


def test_settings_are_those_of_cdk_json() -> None:
    context = {"stack": "prod", "tags": {"team": "data"}, "adopt": {"encryption_key": KEY}, "canary": None}
    assert stack_terms({"context": context}) == StackTerms(stack="prod", key=KEY, tags={"team": "data"})
    assert stack_terms({"context": {"tags": {}, "adopt": None}}) == StackTerms()


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "object"),
        ({}, "context"),
        ({"context": {"tags": "team"}}, "tags"),
        ({"context": {"stack": 1}}, "stack"),
    ],
)
def test_another_file_is_refused(document: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        stack_terms(document)


def test_an_output_of_terraform_is_read_with_null_tags() -> None:
    output = {
        "compartment_id": RINGS,
        "vault_id": VAULT,
        "key_id": RING.key_id,
        "freeform_tags": {"lockstep-stack": "lockstep"},
        "defined_tags": None,
    }
    assert ring_terms(output, region="eu-frankfurt-1") == RING
    wrongs: list[object] = [{}, [], {**output, "key_id": None}]
    for wrong in wrongs:
        with pytest.raises(ValueError):  # noqa: PT011 - each names another field
            ring_terms(wrong, region="eu-frankfurt-1")


# How fast they are made


@dataclass
class FakeTime:
    """Time that passes by waiting only."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class FakePlace:
    """Secrets in memory, of a service that takes so many writes in any second.

    Attributes:
        takes: Writes in a second; more are throttled.
    """

    time: FakeTime
    takes: float = float("inf")
    there: set[str] = field(default_factory=set)
    fails: Callable[[str], LockstepError | None] = lambda _: None
    began: list[float] = field(default_factory=list)
    throttled: int = 0

    def decide(self, name: str) -> Decision:
        if error := self.fails(name):
            raise error
        return Decision(name=name, action=Action.NOTHING if name in self.there else Action.MAKE)

    def make(self, decision: Decision) -> bool:
        now = self.time.now
        self.began.append(now)
        if sum(now - 1 < at <= now for at in self.began) > self.takes:
            self.throttled += 1
            raise StoreThrottledError
        self.there.add(decision.name)
        return True

    def tag(self, decision: Decision) -> None:
        raise NotImplementedError

    def taken(self, name: str) -> Decision:
        raise NotImplementedError


@dataclass
class Done:
    """A work, and what was seen of it."""

    work: Work
    seen: list[Outcome]

    @property
    def made(self) -> list[str]:
        return [o.decision.name for o in self.seen if o.is_done]


def work_on(place: FakePlace, *, rate: float = 50) -> Done:
    seen: list[Outcome] = []
    work = Work(
        place=place,
        pace=Pace(rate, monotonic=place.time.monotonic, sleep=place.time.sleep),
        side_by_side=one_after_the_other,
        sleep=place.time.sleep,
        see=seen.append,
        stop=Event(),
        is_dry=False,
    )
    return Done(work, seen)


NAMES = [f"s{i}" for i in range(400)]


def most_in_a_second(began: list[float]) -> int:
    return max(sum(at <= other < at + 1 - 1e-6 for other in began) for at in began)


@pytest.mark.parametrize("rate", [50, 25, 0.5])
def test_no_second_has_more_writes_than_the_rate(rate: float) -> None:
    place = FakePlace(FakeTime())
    done, names = work_on(place, rate=rate), NAMES[: round(8 * rate)]
    done.work.do(names)
    assert done.made == names
    assert most_in_a_second(place.began) == max(rate, 1)
    assert place.began[-1] - place.began[0] == pytest.approx((len(names) - 1) / rate)


def test_a_service_that_throttles_gets_fewer_calls_and_the_work_ends() -> None:
    place = FakePlace(FakeTime(), takes=10)
    done = work_on(place)
    done.work.do(NAMES)
    assert done.made == NAMES
    # Far fewer refusals than calls, and more than half of what the service takes.
    assert 0 < place.throttled < 40
    assert place.time.now - 1000 < 400 / 5


def test_an_outage_of_a_minute_passes() -> None:
    time = FakeTime()

    def fails(_: str) -> LockstepError | None:
        return StoreUnreachableError() if 1005 < time.now < 1065 else None

    done = work_on(FakePlace(time, fails=fails), rate=2)
    done.work.do(NAMES[:30])
    assert done.made == NAMES[:30]


def test_a_place_that_never_answers_is_given_up_soon() -> None:
    time, asked = FakeTime(), list[str]()

    def fails(name: str) -> LockstepError | None:
        asked.append(name)
        return StoreUnreachableError()

    with pytest.raises(StoreUnreachableError):
        work_on(FakePlace(time, fails=fails)).work.do(NAMES)
    assert asked == ["s0"] * (AT_FIRST + 1)


# Secrets that are there


ARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:dba/else-AbCdEf"
TAGS = {STACK_TAG: "lockstep", SECRET_TAG: "app_user"}
ONE = Wanted(name="a", kind=SecretKind.APP_USER, region="eu-central-1")


def plan_of(*, oci: bool = True, **admins: str) -> Plan:
    """A plan of two credentials; the second one is on both databases."""
    document = plans.plan_document(
        [
            plans.database(name, Engine.MYSQL, admin_secret=secret)
            for name, secret in ({"orders": "dba/orders", "stock": "dba/stock"} | admins).items()
        ],
        [
            plans.credential("a", "orders", username="a"),
            plans.credential("b", "orders", "stock", username="b"),
        ],
        oci=plans.OciNames() if oci else None,
    )
    for database in document["databases"]:
        database["oci_admin_secret"] = f"dba.{database['name']}"
    return parse_plan(json.dumps(document), base=Path())


def names(plan: Plan) -> dict[str, str]:
    return {one.name: one.kind.value for one in wanted(plan)}


def test_every_secret_that_is_known_by_its_tags_is_wanted_once() -> None:
    assert names(plan_of()) == {
        "a": "app_user",
        "a.connection": "connection_blob",
        "b": "app_user",
        "b.connection": "connection_blob",
        "dba/orders": "admin",
        "dba/stock": "admin",
        plans.OCI_KEY_SECRET: "runner-key",
    }
    assert len(wanted(plan_of())) == len(names(plan_of()))


@pytest.mark.parametrize(
    ("tags", "changes", "says"),
    [
        ({**TAGS, STACK_TAG: "other"}, {}, "'other', not 'lockstep'"),
        ({**TAGS, SECRET_TAG: "admin"}, {}, "'admin', not 'app_user'"),
        ({SECRET_TAG: "admin"}, {}, "'admin', not 'app_user'"),
        ({**TAGS, STACK_TAG: ""}, {}, "'', not 'lockstep'"),
        (TAGS, {"DeletedDate": datetime(2026, 1, 1, tzinfo=UTC)}, "scheduled for deletion"),
        (TAGS, {"PrimaryRegion": "eu-west-1"}, "replica of a secret in eu-west-1"),
        (TAGS, {"OwningService": "rds"}, "rds manages it"),
        (TAGS, {"RotationEnabled": True}, "rotates it by itself"),
    ],
)
def test_what_would_be_taken_from_others_or_cannot_work_is_in_the_way(
    tags: dict[str, str], changes: dict[str, Any], says: str
) -> None:
    """Whether it is to be made or tagged."""
    found = {"ARN": ARN, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()], **changes}
    for consent in (False, True):
        decided = in_aws(ONE, found, StackTerms(key=KEY), consent=consent)
        (problem,) = decided.problems
        assert (decided.action, says in problem) == (Action.REFUSE, True)
