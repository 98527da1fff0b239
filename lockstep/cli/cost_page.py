"""docs/cost.md, from the plan of the repository and the price table.

python -m lockstep.cli.cost_page > docs/cost.md
"""

import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from lockstep.cli.cost import number, usd
from lockstep.cost import PRICES, Bill, Deployed, Lever, Line, Price, bill, levers, read_counted, total
from lockstep.cost import assumptions as assumed
from lockstep.cost.calls import Counted, Shape
from lockstep.plan_file import load_plan

PLAN = Path(__file__).parents[2] / "lockstep.yaml"
_FLOWS = {
    "aws rotation": "a rotation by AWS, its functions warm",
    "aws cold start": "added where all four have just started",
    "aws look": "added once an hour: the look at OCI's audit log",
    "oci skip": "a run by the OCI function of a credential that is not due any more",
    "oci look": "added once an hour: the look at AWS's audit log, and the entry about it",
    "oci rotation": "a rotation by the OCI function",
}
_SHAPES = {"1 database": Shape(databases=1), "2 databases, both clouds": Shape(databases=2, ring=4)}


def page() -> str:
    """The page."""
    plan, counted = load_plan(PLAN), read_counted()
    found = bill(plan, Deployed(), counted)
    lower = levers(plan, Deployed(), counted, now=found)
    warm = bill(plan, Deployed(cold=Fraction(0)), counted).per_credential
    return "\n".join(
        [*_top(found), *_tables(found), *_levers(lower), *_basis(counted, warm), *_prices(found), ""]
    )


def _top(found: Bill) -> Iterator[str]:
    yield f"""# What it costs

Made by `python -m lockstep.cli.cost_page > docs/cost.md`. `lockstep cost` shows the same for your plan.

`lockstep.yaml` costs {usd(found.usd)} USD a month ({assumed.HOURS} hours): {len(found.credentials)} credentials at \
{usd(found.per_credential)} on average, and {usd(total(found.deployment))} for the deployment, whatever the number of \
credentials.

Prices are list prices without tax, those of us-east-1 in AWS. What is free up to some amount is charged here, so a
small deployment costs less. AWS rotates every 20 minutes; the standby is called at the
turn of each shard and finds nothing to do."""


def _tables(found: Bill) -> Iterator[str]:
    yield from _table("A credential", found.mean)
    yield from _table("The deployment", found.deployment)


def _table(title: str, lines: Iterable[Line]) -> Iterator[str]:
    yield f"\n## {title}\n\n| | item | a month | USD |\n|---|---|---|---|"
    for line in sorted(lines, key=lambda one: -one.usd):
        doubt = "" if line.rate.confirmed else ", price not confirmed"
        quantity = f"{number(line.quantity)} {line.rate.unit}{doubt}"
        yield f"| {line.cloud.upper()} | {line.item} | {quantity} | {usd(line.usd)} |"


def _levers(lower: Iterable[Lever]) -> Iterator[str]:
    yield "\n## What would lower it\n\nEach by itself, all credentials together.\n"
    yield "| change | USD | what is given up |\n|---|---|---|"
    for lever in lower:
        yield f"| `{lever.change}` | {usd(lever.usd)} | {lever.gives_up or 'nothing'} |"


def _basis(counted: Counted, warm: Fraction) -> Iterator[str]:
    yield f"""
## Calls

Counted on {counted.counted_on} by `python -m sandbox.count_calls`, which also compares them with what is counted now.
An execution enters {counted.transitions} states and has {counted.events} events; a lock record has about \
{counted.bytes["lock_record"]} bytes, an audit entry {counted.bytes["audit_entry"]}.

| | {" | ".join(_SHAPES)} |
|---|{"---|" * len(_SHAPES)}"""
    for flow, meaning in _FLOWS.items():
        cells = [_calls(counted, flow, shape) for shape in _SHAPES.values()]
        yield f"| {meaning} | {' | '.join(cells)} |"
    yield f"""
## Assumptions

What nobody counted is assumed to be dear, in `lockstep/cost/assumptions.py`:

- Every function starts anew each time: {assumed.START_CPU_MS} ms of a processor, of which it has a share by its memory.
  It begins its sessions again. If all were warm, a credential would cost {usd(warm)}.
- Calls wait for each other: {assumed.CALL_MS["dynamodb"]} ms in the own region, {assumed.CALL_MS["vault"]} ms to OCI.
- A request to the other cloud sends {assumed.CALL_OUT:,} bytes; a line of a log has {assumed.EVENT_IN_LOG} to \
{assumed.FUNCTION_IN_LOG} bytes.
- A plan whose one store is in OCI is charged the calls of a store in AWS too.
- Settings of `cdk.json` and of Terraform have their defaults.

Not counted: what applications read, traffic to the databases, endpoints of a VPC, images in a registry,
the log of accesses to the audit bucket, what encrypted logs and topics ask of KMS, taxes."""


def _calls(counted: Counted, flow: str, shape: Shape) -> str:
    services: dict[str, int] = {}
    for call, count in counted.calls(flow, shape):
        services[call.service] = services.get(call.service, 0) + count
    if flow.startswith("oci") and shape.ring is None:
        return ""
    found = ", ".join(f"{service} {count}" for service, count in sorted(services.items()) if count)
    return f"{sum(services.values())}: {found}" if found else "0"


def _prices(found: Bill) -> Iterator[str]:
    yield """
## Prices

The table is `lockstep/cost/prices.py`; `lockstep cost --prices` shows what a plan uses of it.

| price | USD | for | region | free | read in | on |
|---|---|---|---|---|---|---|"""
    for name in found.prices:
        price = PRICES[name]
        seen = price.seen_in if price.confirmed else f"not confirmed: {price.seen_in}"
        yield (
            f"| [{name}]({price.source}) | {price.usd} | {amount(price)} | {price.region} | "
            f"{price.free or '-'} | {seen} | {price.looked_up} |"
        )


def amount(price: Price) -> str:
    """What a price is for."""
    return price.unit if price.per == 1 else f"{price.per:,} {price.unit}"


if __name__ == "__main__":
    sys.stdout.write(page())
