"""What happens to a fleet: every credential is rotated, then one thing after the other goes wrong.

Each act claims something, and says whether it holds. A login of an application may be refused in none of them:
applications log in all the time.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle
from typing import Any, NamedTuple

from lockstep.client import CredentialClient
from lockstep.plan.published import folder_of, place_in_aws, shard_name
from lockstep.protocol.schedule import Shard, run_key
from sandbox.applications import CACHE_SECONDS, Application, Applications, by_client, sources
from sandbox.deploy_local import check_logs, check_roles
from sandbox.deployed_world import STACK
from sandbox.emulators.aws.serving import Rate
from sandbox.fleet.world import LATE, REPEATED, ROTATED, Ended, Fleet, Size, Tell, Triggers, running_fleet
from sandbox.outside import StoreName, lets_in
from sandbox.plans import LOCK_TABLE
from sandbox.watching import Watching

SECRET_WRITES = frozenset({"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage"})
"""What Secrets Manager counts together: 50 a second
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
TICKS = 10
"""So often a shard is triggered until the last of its credentials has a new password: a minute apart, for longer than
the lease of a run that died."""
_POLL_SECONDS = 0.2
_REPEATED_AT = 6
"""An event comes again when one of so many rotations has ended: others run then, or have not begun."""
_MARGIN = timedelta(seconds=5)


class Claim(NamedTuple):
    """What should hold.

    Attributes:
        act: A short title.
        is_shown: Whether what it is about has happened. Where it has not, it is told, and does not fail.
    """

    act: str
    text: str
    holds: bool
    is_shown: bool = True

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.holds and not self.is_shown:
            return "not shown"
        return "holds" if self.holds else "FAILS"


@dataclass(kw_only=True)
class Round:
    """What was rotated, from the first trigger on.

    Attributes:
        before: The generation of each credential before it.
        seconds: From the first trigger to the last end.
        ended: Of each trigger, in their order.
        rotated: The credentials that have a newer generation.
    """

    before: Mapping[str, int]
    seconds: float = 0.0
    ended: list[Ended] = field(default_factory=list)
    rotated: set[str] = field(default_factory=set)


@dataclass
class Stage:
    """Where it happens."""

    fleet: Fleet
    triggers: Triggers
    tell: Tell
    claims: list[Claim] = field(default_factory=list)

    def claim(self, act: str, text: str, *, holds: bool, is_shown: bool = True) -> None:
        """Something that should hold."""
        self.claims.append(Claim(act, text, holds, is_shown))
        self.tell(f"{self.claims[-1].verdict}: {act}: {text}")

    def generations(self) -> Mapping[str, int]:
        """What the lock table says is current, by credential."""
        pages = self.fleet.aws.client("dynamodb").get_paginator("scan").paginate(TableName=LOCK_TABLE)
        items = {item["credential_id"]["S"]: item for page in pages for item in page["Items"]}
        return {
            credential.id: int(items.get(credential.id, {}).get("current_generation", {"N": "0"})["N"])
            for credential in self.fleet.plan.credentials
        }

    def note(self, found: Round, *ended: Ended) -> None:
        """Tell what has ended, and write it down."""
        found.ended += ended
        found.rotated = {key for key, now in self.generations().items() if now > found.before[key]}
        for one in ended:
            told = ", ".join(f"{number} {outcome}" for outcome, number in one.outcomes.most_common())
            self.tell(f"{one.event.shard}: {told or one.error} in {one.seconds:.0f} s")

    def rotate(self, shard: Shard, found: Round) -> None:
        """Trigger a shard, and wait until its rotations have ended."""
        self.tell(f"{shard.name}: triggered, {len(shard.credential_ids)} credentials")
        self.note(found, *self.triggers.wait(self.triggers.fire(shard)))


def everything(stage: Stage) -> Round:
    """Trigger one shard after the other, and once more those of which a credential has no new password."""
    began, found = time.monotonic(), Round(before=stage.generations())
    for shard in stage.triggers.shards:
        stage.rotate(shard, found)
    for shard in stage.triggers.shards:
        _until_rotated(stage, shard, found)
    found.seconds = time.monotonic() - began
    return found


def _until_rotated(stage: Stage, shard: Shard, found: Round, *, but: str = "") -> None:
    """Trigger a shard until all its credentials have a new password."""
    wanted = set(shard.credential_ids) - {but}
    for _ in range(TICKS):
        if left := wanted - found.rotated:
            stage.tell(f"{shard.name}: once more, {len(left)} credentials were not rotated")
            stage.rotate(shard, found)


def trouble(stage: Stage) -> Round:
    """A second round, in which everything goes wrong. The clock has moved on by the longest interval of the plan."""
    shards = stage.triggers.shards
    broken, other, *rest = shards
    longest = max(shard.interval for shard in shards)
    stage.tell(f"the clock moves on by {longest}: every credential is due")
    stage.triggers.pass_time(longest)
    began, found = time.monotonic(), Round(before=stage.generations())
    with _lost_items(stage.fleet, broken) as items:
        _one_fails_and_one_comes_twice(stage, broken, other, found)
        for shard in rest:
            stage.rotate(shard, found)
        for shard in (other, *rest):
            _until_rotated(stage, shard, found)
    healthy = {credential_id for shard in (other, *rest) for credential_id in shard.credential_ids}
    stage.claim(
        "isolation",
        f"the {len(healthy)} credentials of all other shards are rotated meanwhile",
        holds=healthy <= found.rotated,
    )
    starved = broken.credential_ids[len(broken.credential_ids) // 2]
    with _items(stage.fleet, broken, [i for i in items if i["key"] != run_key(starved)]):
        _throttled(stage, broken, starved, found)
        found.seconds = time.monotonic() - began
        _starved(stage, starved)
    return found


def _one_fails_and_one_comes_twice(stage: Stage, broken: Shard, other: Shard, found: Round) -> None:
    stage.tell(f"the list of {broken.name} is lost; the event of {other.name} is delivered twice")
    triggers = stage.triggers
    failing, first = triggers.fire(broken), triggers.fire(other)
    while triggers.is_running(first) and _REPEATED_AT * triggers.done(first) < len(other.credential_ids):
        time.sleep(_POLL_SECONDS)
    second = triggers.repeat(first)
    failed, once, again = triggers.wait(failing, first, second)
    before, after = found.before, stage.generations()
    stage.note(found, failed, once)
    stage.claim(
        "isolation",
        f"the shard without a list fails as {failed.error}, and starts nothing",
        holds=failed.error == "States.ItemReaderFailed"
        and not failed.rotations
        and all(before[key] == after[key] for key in broken.credential_ids),
    )
    moved = {after[key] - before[key] for key in once.rotated}
    stage.claim(
        "twice",
        f"{len(once.rotated)} credentials have one new generation each, by one execution each",
        holds=moved == {1} and len(once.rotations) == len({r.credential_id for r in once.rotations}),
    )
    stage.claim(
        "twice",
        f"the second execution ends {again.error or 'well'}: {again.outcomes[REPEATED]} repeated, "
        f"{again.outcomes[ROTATED]} joined while they ran, {again.outcomes[LATE]} late",
        holds=again.outcomes[REPEATED] > 0
        and again.outcomes.keys() <= {REPEATED, LATE, *once.outcomes}
        and not (again.error and again.outcomes.keys() <= {REPEATED, ROTATED}),
    )


def _throttled(stage: Stage, shard: Shard, starved: str, found: Round) -> None:
    rate = Rate(SECRET_WRITES, 10 if stage.fleet.size.is_large else 2)
    stage.tell(f"Secrets Manager takes {rate.per_second} writes a second; the list of {shard.name} is back")
    stage.fleet.aws.rates["secretsmanager"] = rate
    try:
        ended = stage.triggers.wait(stage.triggers.fire(shard))
    finally:
        del stage.fleet.aws.rates["secretsmanager"]
    stage.note(found, *ended)
    _until_rotated(stage, shard, found, but=starved)
    wanted = set(shard.credential_ids) - {starved}
    stage.claim(
        "throttling",
        f"{rate.refused} writes were refused; {len(ended[0].rotated & wanted)} of {len(wanted)} credentials were "
        f"rotated at once, and all of them by the trigger after that",
        holds=wanted <= found.rotated,
        # On a slow machine a shard asks for less than the rate.
        is_shown=rate.refused > 0,
    )


def _starved(stage: Stage, starved: str) -> None:
    watching = Watching(stage.fleet.stack, STACK)
    quiet = watching.look()
    schedule = next(c.schedule for c in stage.fleet.plan.credentials if c.id == starved)
    stale_after = schedule.interval + schedule.tolerance
    due_at = float(stage.fleet.outside.lock_item(starved)["next_due_at"]["N"])
    by = timedelta(seconds=round(due_at - time.time())) + stale_after + _MARGIN
    stage.tell(f"the clock moves on by {by}: {starved}, which its shard does not list, is two intervals old")
    stage.triggers.pass_time(by)
    loud = watching.look()
    stage.claim(
        "starved",
        f"the watch counts {loud['StaleCredentials']:.0f} stale, {_named(stage.fleet)}; "
        f"before it was {quiet['StaleCredentials']:.0f}",
        holds=(quiet["StaleCredentials"], loud["StaleCredentials"]) == (0, 1)
        and _named(stage.fleet) == starved,
    )
    execution = stage.fleet.stack.start(starved)
    stage.claim(
        "starved",
        "rotated by hand, it is counted no more",
        holds=bool(execution.output)
        and execution.output.get("outcome") == ROTATED
        and watching.look()["StaleCredentials"] == 0,
    )


def _named(fleet: Fleet) -> str:
    """The stale credentials that the watch has named last."""
    rule = fleet.stack.rule_of("watch")
    line = json.loads(fleet.stack.log_of(rule.target_arn.split(":")[6]).splitlines()[-1])
    return ", ".join(line["ids"].get("StaleCredentials", []))


@contextmanager
def _lost_items(fleet: Fleet, shard: Shard) -> Iterator[list[dict[str, Any]]]:
    """The list of a shard is deleted; it is there again afterwards."""
    s3, where = fleet.aws.client("s3"), _where(fleet, shard)
    content = s3.get_object(**where)["Body"].read()
    s3.delete_object(**where)
    try:
        yield json.loads(content)
    finally:
        s3.put_object(**where, Body=content)


@contextmanager
def _items(fleet: Fleet, shard: Shard, items: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """The list of a shard is another one; it is as before afterwards."""
    s3, where = fleet.aws.client("s3"), _where(fleet, shard)
    with _lost_items(fleet, shard):
        s3.put_object(**where, Body=json.dumps(items).encode())
        yield


def _where(fleet: Fleet, shard: Shard) -> dict[str, str]:
    digest = next(s.input["plan"] for s in fleet.stack.schedules if s.input["shard"] == shard.name)
    bucket = place_in_aws(fleet.plan.compiled, digest).bucket
    return {"Bucket": bucket, "Key": f"{folder_of(digest)}/{shard_name(shard.name)}"}


STORES: tuple[StoreName, ...] = ("aws", "oci")
PAUSE_SECONDS = 1.0
"""Between two logins of an application: what they take is taken from the rotations."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a run has found.

    Attributes:
        interval: The shortest of the plan.
        first: The round in which every credential was rotated.
        calls: In the first round, by service.
        logins: Of all applications.
        refused: Which of them were.
        troubles: Other errors of applications, by name.
        claims: What the acts claim.
        problems: What else does not hold, in sentences.
        more: Further figures.
    """

    credentials: int
    shards: int
    interval: timedelta
    first: Round
    calls: Mapping[str, int]
    logins: int
    refused: tuple[str, ...]
    troubles: tuple[str, ...]
    claims: tuple[Claim, ...]
    problems: tuple[str, ...]
    more: Mapping[str, object]

    @property
    def is_within_an_interval(self) -> bool:
        """Whether every credential had a new password within the interval."""
        return (
            len(self.first.rotated) == self.credentials and self.first.seconds < self.interval.total_seconds()
        )

    @property
    def failures(self) -> list[str]:
        """What did not hold; nothing, if all is well."""
        return [
            *([] if self.is_within_an_interval else ["not every credential was rotated within an interval"]),
            *(f"refused: {name}" for name in self.refused),
            *(f"{claim.act}: {claim.text}" for claim in self.claims if not claim.holds),
            *self.problems,
        ]

    def figures(self) -> dict[str, object]:
        """As JSON, for other programs."""
        return {
            "credentials": self.credentials,
            "shards": self.shards,
            "rotated": len(self.first.rotated),
            "wall_seconds": round(self.first.seconds, 1),
            "within_one_interval": self.is_within_an_interval,
            "logins": self.logins,
            "refused": len(self.refused),
            "troubles": len(self.troubles),
            "calls": self.calls,
            "claims": [claim._asdict() for claim in self.claims],
            "problems": self.failures,
            **self.more,
        }


def run(size: Size, tell: Tell) -> Findings:
    """Start a fleet, rotate all of it, play the acts, and look at everything.

    Args:
        size: How large.
        tell: Told of progress.
    """
    began = time.monotonic()
    with running_fleet(size, tell) as fleet:
        in_aws = Counter[str]()
        fleet.aws.on_request = lambda service, _operation: in_aws.update([service])
        triggers = Triggers(fleet, tell, gap=lambda: time.sleep(CACHE_SECONDS + 1))
        stage = Stage(fleet, triggers, tell)
        running = Applications(list(_applications(fleet)))
        with running:
            in_aws.clear()
            fleet.calls.clear()
            first = everything(stage)
            calls = in_aws + Counter(f"oci {record.service}" for record in fleet.calls.records)
            second = trouble(stage)
            time.sleep(CACHE_SECONDS + 1)
        tell("looking at every login, at the permissions and the logs")
        problems = (*_locked_out(fleet), *check_roles(fleet), *check_logs(fleet))
        return Findings(
            credentials=len(fleet.plan.credentials),
            shards=len(fleet.plan.shards),
            interval=min(shard.interval for shard in fleet.plan.shards),
            first=first,
            calls=dict(calls.most_common()),
            logins=running.logins,
            refused=tuple(running.refusals),
            troubles=tuple(running.troubles),
            claims=tuple(stage.claims),
            problems=problems,
            more={
                "databases": [f"{s.product} {s.version}" for s in fleet.servers.values()],
                "acts_seconds": round(second.seconds, 1),
                "applications": len(running.all),
                "long_lived_runner_keys": len(fleet.plan.runners.secrets),
                "seconds": {**fleet.seconds, "all": round(time.monotonic() - began, 1)},
            },
        )


def _applications(fleet: Fleet) -> Iterator[Application]:
    """For each database of the sampled credentials an application, which reads one store or the other."""
    stores = cycle(STORES)
    for credential in fleet.sampled:
        for server in credential.servers:
            store = next(stores)
            client = CredentialClient([sources(fleet.plan, credential)[store]], max_age_seconds=CACHE_SECONDS)
            application = by_client(f"{credential.id} from {store} at {server.name}", client, server)
            application.pause_seconds = PAUSE_SECONDS
            yield application


def _locked_out(fleet: Fleet) -> list[str]:
    """Where what a store serves does not log in."""
    found = []
    for credential in fleet.plan.credentials:
        for store in STORES:
            value = fleet.outside.login(store, credential)
            found += [
                f"{server.name} refuses what {store} serves of {credential.id}"
                for server in credential.servers
                if value is None or not lets_in(server, value)
            ]
    return found
