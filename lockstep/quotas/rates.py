"""The rates of AWS that bind a fleet: what the busiest minute of the day asks of each service (`lockstep.quotas`).

A service is asked as evenly as a shard's rotations begin (`lockstep.quotas.pace`), so a need is what all rotations of
the busiest minute ask, divided by its seconds. `lockstep.quotas.simulation` looks at single seconds.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from lockstep.cost.aws import DECRYPTS, READS, WRITES, shape_of
from lockstep.cost.calls import Shape, read_counted
from lockstep.cost.fleet import STATES_OF_AN_ITEM
from lockstep.plan import Plan
from lockstep.quotas import pace
from lockstep.quotas.base import SPLIT, Quota, Use
from lockstep.store_kinds.aws_secrets_manager import AwsSecretsManager

_AWS = "https://docs.aws.amazon.com"
_STEP_FUNCTIONS = f"{_AWS}/step-functions/latest/dg/service-quotas.html"
_SECRETS_MANAGER = f"{_AWS}/secretsmanager/latest/userguide/reference_limits.html"
_KMS = f"{_AWS}/kms/latest/developerguide/requests-per-second.html"
_DYNAMODB = f"{_AWS}/amazondynamodb/latest/developerguide/bp-partition-key-design.html"
_LAMBDA = f"{_AWS}/lambda/latest/dg/gettingstarted-limits.html"
_EVENTBRIDGE = f"{_AWS}/eventbridge/latest/userguide/eb-quota.html"
_S3 = f"{_AWS}/AmazonS3/latest/userguide/optimizing-performance.html"

LARGE_REGIONS = frozenset({"us-east-1", "us-west-2", "eu-west-1"})
"""Where Step Functions has larger quotas."""
MAP_STARTS = 100
"""Child executions that a Distributed Map starts in a second."""
_MINUTE = 60
_MORE = f"ask AWS for more, or {SPLIT} in another region"
_SPREAD = (
    f"use longer intervals for some credentials, or {SPLIT} in another region: this quota cannot be raised"
)


class _Rate(NamedTuple):
    name: str
    limit: int
    unit: str
    source: str
    each: Fraction
    """Calls of one rotation."""
    adjustable: bool = True


def of_rates(plan: Plan) -> Iterator[Use]:
    """What the busiest minute of a plan needs of AWS's rates, and what its shards need at the same time."""
    busiest = pace.busiest(plan.shards)
    count = len(plan.credential_sections)
    # Of all credentials, if they were spread evenly over the day.
    evenly = sum((Fraction(1, int(c.interval.total_seconds())) for c in plan.credential_sections), Fraction())
    for rate in _rates(plan):
        yield Use(
            quota=Quota(
                name=f"{rate.name} in the busiest minute",
                limit=rate.limit,
                unit=rate.unit,
                source=rate.source,
                change=_MORE if rate.adjustable else _SPREAD,
                adjustable=rate.adjustable,
            ),
            need=rate.each * busiest.rotations / _MINUTE,
            each=rate.each * evenly / count,
            count=count,
            exact=False,
        )
    yield from _of_shards(plan, busiest)


def _rates(plan: Plan) -> Iterator[_Rate]:
    counted, shape = read_counted(), _largest(plan)

    def calls(service: str, *operations: str) -> Fraction:
        return Fraction(
            sum(
                counted.number(flow, shape, service, *operations)
                for flow in ("aws rotation", "aws cold start")
            )
        )

    large = plan.lock.region in LARGE_REGIONS
    if plan.store(AwsSecretsManager):
        yield _Rate(
            "Secrets Manager, writes",
            pace.WRITES_A_SECOND,
            "a second",
            _SECRETS_MANAGER,
            Fraction(pace.writes_of_a_rotation()),
            adjustable=False,
        )
    yield _Rate(
        "Secrets Manager, GetSecretValue",
        10_000,
        "a second",
        _SECRETS_MANAGER,
        calls("secretsmanager", "GetSecretValue"),
        adjustable=False,
    )
    yield _Rate(
        "Step Functions, executions that start",
        300 if large else 150,
        "a second, after the first 1,300" if large else "a second, after the first 800",
        _STEP_FUNCTIONS,
        Fraction(1),
    )
    yield _Rate(
        "Step Functions, state transitions",
        5000 if large else 800,
        "a second",
        _STEP_FUNCTIONS,
        Fraction(counted.transitions + STATES_OF_AN_ITEM),
    )
    yield _Rate(
        "Step Functions, children that Distributed Maps start",
        MAP_STARTS,
        "a second",
        _STEP_FUNCTIONS,
        Fraction(1),
        adjustable=False,
    )
    yield _Rate(
        "KMS, requests with a symmetric or an HMAC key",
        10_000,
        "a second, more in large regions",
        _KMS,
        calls("kms") + calls("secretsmanager", *DECRYPTS),
    )
    yield _Rate(
        "DynamoDB, writes of the lock table",
        1000,
        "a second, of one partition",
        _DYNAMODB,
        calls("dynamodb", *WRITES) * ceil(counted.bytes["lock_record"] / 1024),
        adjustable=False,
    )
    yield _Rate("S3, entries written", 3500, "a second, of one prefix", _S3, calls("s3", "PUT"))


def _of_shards(plan: Plan, busiest: pace.Busiest) -> Iterator[Use]:
    yield Use(
        quota=Quota(
            name="Lambda, concurrent executions in the region",
            limit=1000,
            unit="executions",
            source=_LAMBDA,
            change=_MORE,
            adjustable=True,
        ),
        need=Fraction(pace.most_at_once(plan)),
    )
    yield Use(
        quota=Quota(
            name="EventBridge, shards that start at once",
            limit=750,
            unit="a second, more in large regions",
            source=_EVENTBRIDGE,
            change=_MORE,
            adjustable=True,
        ),
        need=Fraction(len(busiest.shards)),
    )
    every = pace.every_ms(plan)
    seconds = max(Fraction((len(s.credential_ids) - 1) * every[s.name], 1000) for s in plan.shards)
    yield Use(
        quota=Quota(
            name="Lockstep, time in which the rotations of a shard begin",
            limit=int(pace.WINDOW.total_seconds()),
            unit="seconds",
            source="lockstep/quotas/pace.py",
            change=f"{busiest.rotations:,} rotations begin at {busiest}: use longer intervals for some credentials, or "
            f"{SPLIT} in another region. What begins later is left to the standby",
        ),
        need=seconds,
    )
    scan = ceil(len(plan.credential_sections) * read_counted().bytes["lock_record"] / 4096)
    yield Use(
        quota=Quota(
            name="DynamoDB, reads of a scan of the lock table, with those of the busiest minute",
            limit=3000,
            unit="a second, of one partition",
            source=_DYNAMODB,
            change=SPLIT,
        ),
        need=scan
        + Fraction(
            read_counted().number("aws rotation", Shape(databases=1), "dynamodb", *READS) * busiest.rotations,
            _MINUTE,
        ),
    )


def _largest(plan: Plan) -> Shape:
    """The shape of the credential with the most databases."""
    return shape_of(plan, max(plan.credential_sections, key=lambda section: len(section.databases)))
