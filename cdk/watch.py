"""The watch: a rule that calls it, and the alarms on what it counts (protocol O14).

Its numbers are about all credentials together, so alarms and metrics are as many for a hundred credentials as for one.
"""

import math
from collections.abc import Iterator
from datetime import timedelta

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from cdk.alarms import Rule
from cdk.canary import Canary
from cdk.clock import Clock
from cdk.deployment import LONGEST_ALARM
from cdk.settings import Settings
from lockstep.operate.watch import EVERY, namespace
from lockstep.plan.model import Plan
from lockstep.protocol.names import canary_alarm_name

_PERIOD = Duration.seconds(EVERY.total_seconds())
_HOUR = timedelta(hours=1)
_PERIODS_OF_AN_HOUR = _HOUR // EVERY
# A new alarm has no data, and must not be red. That the watch is silent is told by one alarm alone.
_MISSING = cloudwatch.TreatMissingData.MISSING


def call_watch(
    scope: Construct, function: lambda_.IFunction, settings: Settings, canary: Canary | None
) -> Clock:
    """Call the watch every five minutes."""
    return Clock(
        scope,
        "Watch",
        function=function,
        rule_name=f"{settings.stack}.watch",
        schedule=f"rate({EVERY // timedelta(minutes=1)} minutes)",
        given={
            "stack": settings.stack,
            "schedules": settings.schedules,
            **({"canary": canary.credential.id} if canary else {}),
        },
    )


def canary_alarm(scope: Construct, stack: str, canary: Canary) -> cloudwatch.Alarm:
    """The alarm that stops a deployment. It tells nobody: what people must know, other alarms say.

    Where the watch writes nothing, the canary counts as failed, since nothing shows that it works.
    """
    return cloudwatch.Alarm(
        scope,
        "Alarm",
        alarm_name=canary_alarm_name(stack),
        metric=watched(stack, "CanarySeconds"),
        threshold=canary.proven_for.total_seconds(),
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        alarm_description=f"AWS has not rotated {canary.credential.id} in time, so no deployment goes beyond it. "
        "What to do: docs/runbook.md#deploy-a-newer-version",
    )


def watched(
    stack: str, name: str, *, statistic: str = "Maximum", period: Duration = _PERIOD
) -> cloudwatch.Metric:
    """A number of the watch."""
    return cloudwatch.Metric(
        namespace=namespace(stack),
        metric_name=name,
        dimensions_map={"Stack": stack},
        statistic=statistic,
        period=period,
    )


def rules(plan: Plan, stack: str) -> Iterator[Rule]:
    """The alarms on what the watch counts."""
    intervals = [c.schedule.interval for c in plan.credentials]
    # So long that each credential that was resumed, or whose schedules were switched on, has had its next trigger.
    grace = min(max(intervals) // EVERY, _PERIODS_OF_AN_HOUR) + 2
    yield Rule(
        name="Stale",
        metric=watched(stack, "StaleCredentials"),
        severity="page",
        datapoints=grace,
        periods=grace + 1,
        without_data=_MISSING,
        description="Credentials were not rotated for two intervals, by any runner. Applications keep working. The log "
        "of the function watch names them.",
        section="stale-credentials",
    )
    yield Rule(
        name="Blocked",
        metric=watched(stack, "BlockedDatabases"),
        severity="page",
        datapoints=2,
        periods=3,
        without_data=_MISSING,
        description="A database has refused a login that should work, perhaps also of applications.",
        section="current-value-rejected",
    )
    yield Rule(
        name="Revoking",
        metric=watched(stack, "RevokingCredentials"),
        severity="page",
        datapoints=4,
        periods=5,
        without_data=_MISSING,
        description="An emergency is not over: a password that an operator revoked may still log in.",
        section="break-glass",
    )
    yield Rule(
        name="WatchSilent",
        metric=watched(stack, "Credentials"),
        severity="page",
        datapoints=2,
        periods=3,
        below=True,
        without_data=_MISSING,
        tells_silence=True,
        description="The watch has not written its numbers for 15 minutes or more, so the other alarms see nothing. It "
        "cannot read the lock table, or it is not called.",
        section="the-watch-is-silent",
    )
    yield Rule(
        name="PlanNotActive",
        metric=watched(stack, "PlanNotActiveCredentials"),
        severity="ticket",
        datapoints=6,
        periods=7,
        without_data=_MISSING,
        description="The active plan of credentials is not the deployed one, or none is: AWS does not rotate them.",
        section="errors-by-name",
    )
    yield Rule(
        name="Unreadable",
        metric=watched(stack, "UnreadableRecords"),
        severity="ticket",
        datapoints=2,
        periods=3,
        without_data=_MISSING,
        description="Lock records cannot be read: malformed, or of another format.",
        section="errors-by-name",
    )
    yield _for_hours(
        stack,
        name="Unrotated",
        counted="UnrotatedCredentials",
        hours=2 * max(intervals) / _HOUR,
        description="Credentials whose plan was activated have never been rotated.",
        section="stale-credentials",
    )
    yield _for_hours(
        stack,
        name="Paused",
        counted="PausedCredentials",
        hours=24,
        description="Credentials have been paused for a day or more.",
        section="alarms",
    )


def _for_hours(stack: str, *, name: str, counted: str, hours: float, description: str, section: str) -> Rule:
    """A ticket for what holds all the time, for so many hours."""
    periods = min(max(math.ceil(hours), 2), LONGEST_ALARM // _HOUR)
    return Rule(
        name=name,
        metric=watched(stack, counted, statistic="Minimum", period=Duration.hours(1)),
        severity="ticket",
        datapoints=periods,
        periods=periods,
        without_data=_MISSING,
        description=description,
        section=section,
    )
