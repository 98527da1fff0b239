"""docs/fleet.md: what a fleet asks of both clouds and costs, from the plan of the repository with more credentials.

python -m lockstep.cli.fleet_page > docs/fleet.md
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache

from lockstep.cli import fleet_text as text
from lockstep.cli.cost import usd
from lockstep.cli.cost_page import PLAN
from lockstep.cost import Bill, Deployed, Line, bill, read_counted
from lockstep.cost import assumptions as assumed
from lockstep.plan import Plan
from lockstep.plan_file import load_plan
from lockstep.provision.pace import AWS_RATE, OCI_RATE
from lockstep.quotas import Estate, Use, Verdict, pace, uses
from lockstep.quotas.aws import SECRETS_EACH
from lockstep.quotas.scaling import scaled
from lockstep.quotas.simulation import SERVICES, WRITES, Simulated, mean_calls, simulate
from lockstep.store_kinds.oci_vault import OciVault

COUNTS = (10, 100, 1000, 10_000)
SECONDS = (0.8, 3, 6, 12)
"""How long rotations may take."""
_GROUPS: Mapping[str, Callable[[Line], bool]] = {
    "Secrets Manager": lambda line: line.item.startswith("Secrets Manager"),
    "Step Functions": lambda line: line.item.startswith("Step Functions"),
    "KMS": lambda line: line.item.startswith("KMS"),
    "Lambda": lambda line: line.item.startswith("Lambda"),
    "S3": lambda line: line.item.startswith("S3"),
    "DynamoDB": lambda line: line.item.startswith("DynamoDB"),
    "CloudWatch and X-Ray": lambda line: line.item.startswith(("CloudWatch", "X-Ray")),
    "EventBridge": lambda line: line.item.startswith("EventBridge"),
    "data to the other cloud": lambda line: line.item.startswith("Data to"),
    "OCI": lambda line: line.cloud == "oci",
}


def page() -> str:
    """The page."""
    fleets = {count: _fleet(count) for count in COUNTS}
    return "\n".join(
        [
            text.TOP,
            *_shards(fleets),
            *_calls(fleets),
            *_durations(fleets[COUNTS[-1]]),
            *_costs(fleets),
            *_quotas(fleets[COUNTS[-1]]),
            text.BROKE_FIRST,
            text.STACK,
            *_assumptions(),
            *_people(),
            text.ONE_MACHINE,
            text.REAL_ACCOUNT,
            "",
        ]
    )


@cache
def _fleet(count: int) -> Plan:
    return scaled(load_plan(PLAN), count)


@cache
def _simulated(count: int) -> Simulated:
    return simulate(_fleet(count))


def _shards(fleets: Mapping[int, Plan]) -> Iterator[str]:
    yield text.SHARDS
    yield _row(
        "credentials", "shards", "in the busiest minute", "begin every", "at once", "last begins", "all ended"
    )
    yield _rule(7)
    for count, plan in fleets.items():
        found, busiest = _simulated(count), pace.busiest(plan.shards)
        every, at_once = pace.every_ms(plan), pace.concurrency(plan)
        yield _row(
            f"{count:,}",
            len(plan.shards),
            f"{busiest.rotations:,}, at {busiest}",
            f"{min(every.values())} ms",
            max(at_once.values()),
            f"{found.last_begins:.0f} s",
            f"{found.wall:.0f} s",
        )


def _calls(fleets: Mapping[int, Plan]) -> Iterator[str]:
    yield text.CALLS
    yield _row("service", *(f"{count:,}" for count in fleets))
    yield _rule(len(fleets) + 1)
    means = [mean_calls(plan) for plan in fleets.values()]
    peaks = [_simulated(count).peaks for count in fleets]
    for service in SERVICES:
        cells = [
            f"{_number(mean[service])}, {peak[service]}" for mean, peak in zip(means, peaks, strict=True)
        ]
        if any(peak[service] for peak in peaks):
            yield _row(service, *cells)


def _durations(plan: Plan) -> Iterator[str]:
    yield text.DURATIONS
    yield _row(
        "a rotation takes",
        "writes in the busiest second",
        "refused and tried again",
        "last begins",
        "the same without a pace",
    )
    yield _rule(5)
    for seconds in SECONDS:
        paced, waves = (simulate(plan, seconds=seconds, paced=one) for one in (True, False))
        yield _row(
            f"{seconds} s",
            paced.peaks[WRITES],
            f"{paced.throttled:,}",
            f"{paced.last_begins:.0f} s",
            f"{waves.peaks[WRITES]} writes, {waves.throttled:,} refused, {waves.failed:,} of {waves.rotations:,} "
            "rotations failed",
        )


def _costs(fleets: Mapping[int, Plan]) -> Iterator[str]:
    bills = {count: bill(plan, Deployed(), read_counted()) for count, plan in fleets.items()}
    each = {count: one.usd / count for count, one in bills.items()}
    flat = max(each[count] for count in COUNTS[1:]) / min(each[count] for count in COUNTS[1:])
    yield text.COSTS.format(percent=f"{float(flat - 1) * 100:.0f}")
    yield _row("USD a credential and month", *(f"{count:,}" for count in bills))
    yield _rule(len(bills) + 1)
    left = {count: list(_each_line(one)) for count, one in bills.items()}
    for name, belongs in _GROUPS.items():
        sums = []
        for count, lines in left.items():
            sums.append(sum((amount for line, amount in lines if belongs(line)), Fraction()))
            left[count] = [(line, amount) for line, amount in lines if not belongs(line)]
        yield _row(name, *map(usd, sums))
    yield _row("**together**", *(f"**{usd(amount)}**" for amount in each.values()))
    yield _row(
        "of it for the deployment", *(usd((one.usd - one.per_credential * n) / n) for n, one in bills.items())
    )
    yield _row("the whole fleet", *(usd(one.usd) for one in bills.values()))


def _each_line(found: Bill) -> Iterator[tuple[Line, Fraction]]:
    """The lines of a mean credential, and of the deployment shared by all, with what one credential pays."""
    yield from ((line, line.usd) for line in found.mean)
    yield from ((line, line.usd / len(found.credentials)) for line in found.deployment)


def _quotas(plan: Plan) -> Iterator[str]:
    yield text.QUOTAS
    yield _row("quota", "needed", "of", "share", "more than allowed from", "")
    yield _rule(6)
    for use in sorted(uses(plan, Estate(adopts_secret=lambda _: True)), key=_share, reverse=True):
        yield _row(
            f"[{use.quota.name}]({use.quota.source})" if "://" in use.quota.source else use.quota.name,
            _number(float(use.need)),
            f"{use.quota.limit:,} {use.quota.unit}" if use.quota.limit else use.quota.unit,
            f"{float(_share(use)):.0%}" if use.quota.limit else "",
            _breaks(use),
            use.verdict.value if use.verdict is not Verdict.FITS else "",
        )


def _share(use: Use) -> Fraction:
    """What is not known comes first."""
    return use.need / use.quota.limit if use.quota.limit else Fraction(1_000_000)


def _breaks(use: Use) -> str:
    if use.breaks_at is None:
        return "-"
    about = "" if use.exact else "about "
    return f"{about}{use.breaks_at:,} {use.per}"


def _assumptions() -> Iterator[str]:
    yield text.ASSUMPTIONS.format(
        seconds=assumed.ROTATION_SECONDS,
        longer=pace.LONGER,
        window=int(pace.WINDOW.total_seconds()),
        writes=pace.writes_of_a_rotation(),
        record_us=assumed.RECORD_US,
        child_starts=assumed.CHILD_STARTS,
        report_writes=assumed.REPORT_WRITES,
        counted_on=read_counted().counted_on,
    )


def _people() -> Iterator[str]:
    credentials = COUNTS[-1]
    vault = _fleet(credentials).store(OciVault)
    ring = vault.ring if vault else 0
    yield text.PEOPLE.format(
        aws_rate=int(AWS_RATE),
        oci_rate=int(OCI_RATE),
        aws_minutes=round(SECRETS_EACH * credentials / AWS_RATE / 60),
        oci_hours=round(SECRETS_EACH * ring * credentials / OCI_RATE / 3600),
    )


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _rule(columns: int) -> str:
    return f"|{'---|' * columns}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"  # noqa: PLR2004 - two digits


if __name__ == "__main__":
    sys.stdout.write(page())
