"""A run of a fleet: every credential, then the acts, while applications log in all the time; and what it found."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle

from lockstep.client import CredentialClient
from sandbox.applications import CACHE_SECONDS, Application, Applications, by_client, sources
from sandbox.deploy_local import check_logs, check_roles
from sandbox.fleet.acts import Claim, Round, Stage, everything, trouble
from sandbox.fleet.triggers import Triggers
from sandbox.fleet.world import Fleet, Size, Tell, running_fleet
from sandbox.outside import StoreName, lets_in

STORES: tuple[StoreName, ...] = ("aws", "oci")
PAUSE_SECONDS = 1.0
"""Between two logins of an application: what they take is taken from the rotations."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a run has found.

    Attributes:
        interval: The shortest of the plan.
        first: The round in which every credential was rotated.
        second: That of the acts.
        calls: In the first round, by service.
        logins: Of all applications.
        refused: Which of them were.
        troubles: Other errors of applications, by name.
        claims: What the acts claim.
        problems: What else does not hold, in sentences.
        runner_keys: With how many long-lived keys the runners prove themselves in the other cloud.
        seconds: How long each part took.
    """

    credentials: int
    shards: int
    interval: timedelta
    databases: tuple[str, ...]
    first: Round
    second: Round
    calls: Mapping[str, int]
    applications: int
    logins: int
    refused: tuple[str, ...]
    troubles: tuple[str, ...]
    claims: tuple[Claim, ...]
    problems: tuple[str, ...]
    runner_keys: int
    seconds: Mapping[str, float]

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
            "databases": self.databases,
            "rotated": len(self.first.rotated),
            "wall_seconds": round(self.first.seconds, 1),
            "within_one_interval": self.is_within_an_interval,
            "longest_wait_seconds": round(self.first.longest_wait().total_seconds(), 1),
            "late": self.first.late,
            "failed": self.first.failed,
            "acts_seconds": round(self.second.seconds, 1),
            "applications": self.applications,
            "logins": self.logins,
            "refused": len(self.refused),
            "troubles": len(self.troubles),
            "calls": self.calls,
            "claims": [claim._asdict() for claim in self.claims],
            "problems": self.failures,
            "long_lived_runner_keys": self.runner_keys,
            "seconds": self.seconds,
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
            fleet.oci.calls.clear()
            first = everything(stage)
            calls = in_aws + Counter(f"oci {record.service}" for record in fleet.oci.calls.records)
            second = trouble(stage)
            time.sleep(CACHE_SECONDS + 1)
        tell("looking at every login, at the permissions and the logs")
        problems = (*_locked_out(fleet), *check_roles(fleet), *check_logs(fleet))
        return Findings(
            credentials=len(fleet.plan.credentials),
            shards=len(fleet.plan.shards),
            interval=min(shard.interval for shard in fleet.plan.shards),
            databases=tuple(f"{s.product} {s.version}" for s in fleet.servers.values()),
            first=first,
            second=second,
            calls=dict(calls.most_common()),
            applications=len(running.all),
            logins=running.logins,
            refused=tuple(f"{r.application}, generation {r.generation}" for r in running.refusals),
            troubles=tuple(running.troubles),
            claims=tuple(stage.claims),
            problems=problems,
            runner_keys=len(fleet.plan.runners.secrets),
            seconds={**fleet.seconds, "all": round(time.monotonic() - began, 1)},
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
