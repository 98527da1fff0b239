"""A run of a fleet: every credential, then the acts, while applications log in all the time; and what it found."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

from sandbox.applications import CACHE_SECONDS, Applications
from sandbox.deploy_local import check_logs, check_roles
from sandbox.fleet.acts import Claim, Round, Stage, everything, trouble
from sandbox.fleet.applications import applications
from sandbox.fleet.calls import Calls, Rates
from sandbox.fleet.triggers import Triggers
from sandbox.fleet.world import Fleet, Size, Tell, running_fleet
from sandbox.outside import StoreName, lets_in

STORES: tuple[StoreName, ...] = ("aws", "oci")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a run has found.

    Attributes:
        interval: The shortest of the plan.
        first: The round in which every credential was rotated.
        second: That of the acts.
        rates: Calls in the first round, by service.
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
    rates: Mapping[str, Rates]
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
            "calls": {service: asdict(rates) for service, rates in self.rates.items()},
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
        calls = Calls(fleet.oci)
        fleet.aws.on_request = calls
        triggers = Triggers(fleet, tell, gap=lambda: time.sleep(CACHE_SECONDS + 1))
        stage = Stage(fleet, triggers, tell)
        running = Applications(applications(fleet.plan, fleet.outside, fleet.sampled))
        with running:
            calls.begin()
            first = everything(stage)
            rates = calls.rates()
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
            rates=rates,
            applications=len(running.all),
            logins=running.logins,
            refused=tuple(f"{r.application}, generation {r.generation}" for r in running.refusals),
            troubles=tuple(running.troubles),
            claims=tuple(stage.claims),
            problems=problems,
            runner_keys=len(list(fleet.plan.runners.keys)),
            seconds={**fleet.seconds, "all": round(time.monotonic() - began, 1)},
        )


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
