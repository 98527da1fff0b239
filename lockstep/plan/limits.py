"""The limits of both clouds that a plan can exceed, and what it needs of each: `check`, `cdk synth`.

What is not here a plan does not exceed before one of these, or is refused as a mistake (`lockstep.plan.checks`), or is
the same for every plan, and tests hold it. The numbers are for an account in which nothing else is, with the quotas
that providers give (docs/fleet.md).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from fractions import Fraction
from math import ceil

from msgspec import Struct

from lockstep.plan.credentials import is_plain_name, names_in_oci
from lockstep.plan.model import Plan
from lockstep.plan.stores import AwsSecretsManager, OciVault
from lockstep.protocol.deadlines import LAST_START, START_POLICY, TRIGGER_LATENESS
from lockstep.protocol.model import AdminIam, AdminSecret
from lockstep.protocol.schedule import DAY, MOST_APART_MS, Shard, period

# How fast the rotations of a shard begin, and how many run at once (protocol R17).
#
# Secrets Manager takes 50 writes a second of an account and region, whoever makes them, and no request raises
# that. So one rotation after the other begins, `every` so many milliseconds: what a shard writes in a second does
# not depend on how long a rotation takes. All shards of a minute share what may be written. How many rotations
# run at once is a limit for the day on which they take longer, not the pace: by a limit alone they would begin in
# waves, and rotations that are faster than assumed would write more than is taken (docs/fleet.md).

WRITES_A_SECOND = 50
"""PutSecretValue, UpdateSecret and UpdateSecretVersionStage together, of an account and region; not adjustable
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html). What OCI Vault takes is not
published, so a plan without a store in AWS keeps to the same pace."""
WRITES_OF_A_ROTATION = 4
"""PutSecretValue and UpdateSecretVersionStage, for both secrets; a test counts them."""
ROTATION_SECONDS = 6
"""What a rotation takes in AWS. `make bench` measures a median of 0.8 s on a loopback; four functions that start anew,
each at a few hundred milliseconds, and calls of real services come on top."""
WINDOW = timedelta(seconds=60)
"""Within so long after its start a shard should begin its last rotation: the next shard starts then."""
USUAL = Fraction(8, 10)
"""So much of the writes rotations use where they have the time."""
FULLEST = Fraction(95, 100)
"""A minute in which more begin than `USUAL` of the writes allows uses no more than this share of them."""
SPREAD_MS = (LAST_START - START_POLICY.longest - TRIGGER_LATENESS) // timedelta(milliseconds=1)
"""Over so much of it a shard spreads its rotations where it may begin them faster: whoever else is asked, such as OCI
Vault, whose rates are not published, is asked evenly. And where the trigger is late by its minute, the last one still
begins in time."""
SLOWEST_MS = 250
"""No shard begins them slower."""
LONGER = 2
"""Rotations may take so many times what is assumed before fewer of them run at once than the pace needs."""
LEAST = 10
"""So many rotations may run at once in any shard."""


def busiest(shards: Sequence[Shard]) -> tuple[timedelta, int]:
    """The busiest minute after midnight UTC, the first of several, and how many rotations of all shards begin then.

    What is rotated every few days counts as if it were due.
    """
    counts = _by_minute(shards)
    at = min(counts, key=lambda minute: (-counts[minute], minute))
    return at, counts[at]


def every_ms(plan: Plan) -> dict[str, int]:
    """The milliseconds from the begin of a rotation to that of the next one in the same shard, by the shard's name."""
    counts, found = _by_minute(plan.shards), {}
    for shard in plan.shards:
        size = len(shard.credential_ids)
        of_all = Fraction(max(counts[minute] for minute in minutes(shard)), size)
        usual, fastest = (
            ceil(of_all * 1000 * WRITES_OF_A_ROTATION / (share * WRITES_A_SECOND))
            for share in (USUAL, FULLEST)
        )
        in_window = int(1000 * WINDOW.total_seconds()) // size
        apart = max(min(usual, max(fastest, in_window)), min(SPREAD_MS // size, SLOWEST_MS))
        found[shard.name] = min(apart, MOST_APART_MS)
    return found


def concurrency(plan: Plan) -> dict[str, int]:
    """How many rotations of each shard may run at once, by the shard's name; 1 at least."""
    every = every_ms(plan)
    return {
        shard.name: min(
            len(shard.credential_ids),
            max(LEAST, ceil(Fraction(1000 * LONGER * ROTATION_SECONDS, every[shard.name]))),
        )
        for shard in plan.shards
    }


def minutes(shard: Shard) -> frozenset[timedelta]:
    """The minutes of a day at which it is started, after midnight UTC."""
    every = period(shard.interval)
    return frozenset(shard.phase + number * every for number in range(DAY // every))


def _by_minute(shards: Sequence[Shard]) -> Counter[timedelta]:
    counts: Counter[timedelta] = Counter()
    for shard in shards:
        for minute in minutes(shard):
            counts[minute] += len(shard.credential_ids)
    return counts


RUNNER_POLICY = 4840
"""Characters of the OCI runner's policy, with the longest names and three adopted keys."""
FUNCTION_POLICY = 5960
"""Characters of the largest inline policy of a role, likewise, without listed admins."""
_LISTED_ADMIN = 45 + len("arn:aws-us-gov:secretsmanager:us-gov-west-1:111122223333:secret:")
"""Characters that an admin's secret adds to the policy, its name apart."""
_LOGIN = 95
"""Characters of a region and username with which admins log in by IAM, the username apart."""
_MANAGED_POLICY, _INLINE_POLICIES = 6144, 10240
"""Characters (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html)."""
_SECRETS_OF_TENANCY = 5000
"""Where Oracle allows no more (https://docs.oracle.com/iaas/Content/General/Concepts/servicelimits.htm)."""
_SPLIT = "deploy two stacks, with a plan, a lock table and an audit bucket each"
_BY_NAME = (
    "keep admins' logins in secrets of this account, given by name and tagged, or let databases of one server share a "
    f"secret, or {_SPLIT}"
)
_SPREAD = f"use longer intervals for some credentials, or {_SPLIT} in another region"


class Use(Struct, frozen=True):
    """A limit, and what a plan needs of it.

    Attributes:
        name: What is limited.
        need: What the plan needs.
        limit: The most that is allowed.
        unit: Of both.
        change: What to do where a plan needs more.
        adjustable: Whether the provider raises it on request, so that an account may have more.
    """

    name: str
    need: float
    limit: int
    unit: str
    change: str
    adjustable: bool = False

    @property
    def exceeded(self) -> bool:
        """Whether the plan needs more."""
        return self.need > self.limit

    def __str__(self) -> str:
        text = f"{self.name}: {ceil(self.need):,} of {self.limit:,} {self.unit}"
        return f"{text}; {self.change}" if self.exceeded else text


def broken(plan: Plan) -> list[Use]:
    """The limits that the plan exceeds and no request raises."""
    return [use for use in uses(plan) if use.exceeded and not use.adjustable]


def uses(plan: Plan) -> Iterator[Use]:
    """What the plan needs of every limit."""
    (at, rotations), every = busiest(plan.shards), every_ms(plan)
    hour, minute = divmod(at // timedelta(minutes=1), 60)
    change = f"{rotations:,} rotations begin at {hour:02}:{minute:02} UTC: {_SPREAD}"
    if plan.store(AwsSecretsManager):
        writes = rotations * WRITES_OF_A_ROTATION / 60
        yield Use(
            "Secrets Manager, writes in the busiest minute", writes, WRITES_A_SECOND, "a second", change
        )
    seconds = max((len(s.credential_ids) - 1) * every[s.name] / 1000 for s in plan.shards)
    name = "Lockstep, time in which the rotations of a shard begin"
    late = f"{change}. What begins later is left to the standby"
    yield Use(name, seconds, int(WINDOW.total_seconds()), "seconds", late)
    admins = [d.admin for d in plan.database_sections]
    by_iam = {(a.region, a.username) for a in admins if isinstance(a, AdminIam)}
    logins = sum(_LOGIN + len(name) for _, name in by_iam)
    if plan.runners.oci:
        need = RUNNER_POLICY + logins
        yield Use("IAM, managed policy of the OCI runner", need, _MANAGED_POLICY, "characters", _SPLIT)
    secrets = {a.aws for a in admins if isinstance(a, AdminSecret) and not is_plain_name(a.aws)}
    need = FUNCTION_POLICY + logins + sum(_LISTED_ADMIN + len(secret) for secret in secrets)
    name = "IAM, inline policies of the function ApplyDb"
    yield Use(name, need, _INLINE_POLICIES, "characters", _BY_NAME)
    if plan.store(OciVault):
        # Its runner reads admins, the AWS key and the MAC key.
        fixed = len(names_in_oci(plan)) + 2 if plan.runners.oci else 0
        need = fixed + 2 * plan.slots * len(plan.credential_sections)
        name, change = "OCI Vault, secrets of the tenancy", "ask Oracle for more"
        yield Use(name, need, _SECRETS_OF_TENANCY, "secrets", change, adjustable=True)
