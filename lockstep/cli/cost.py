"""`lockstep cost`: what the plan costs a month, by item, and what would lower it."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from lockstep.cli.output import (
    DEFAULT_PLAN,
    FEW,
    AsJson,
    PlanFile,
    json_in,
    plan_or_exit,
    print_json,
    say,
    wrong_use,
)
from lockstep.cost import (
    PRICES,
    Bill,
    Counted,
    Deployed,
    Lever,
    Line,
    Price,
    bill,
    levers,
    read_counted,
    total,
)
from lockstep.cost.assumptions import HOURS


def cost(
    *,
    file: PlanFile = DEFAULT_PLAN,
    as_json: AsJson = False,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", help="The cdk.json of the deployment.  [default: a new one's settings]"),
    ] = None,
    prices: Annotated[
        bool, typer.Option("--prices", help="Show each price, where it was read, and what is free.")
    ] = False,
) -> None:
    """Show what the plan costs a month, and what would lower it.

    This calls no cloud and no database. The calls of a rotation were counted on emulators of both clouds. Prices are
    list prices: of us-east-1 in AWS, and of OCI, which has the same everywhere. A month has 730 hours. AWS rotates,
    and the standby finds nothing to do. What is free up to some amount is charged here. What cannot be known is
    assumed to be dear: each function starts anew, and calls wait for each other. Settings of Terraform are the
    defaults. Not counted: what applications read, traffic to databases, endpoints of a VPC, taxes.

    Exit code: 0 shown, 2 the plan or the file of settings is not valid.
    """
    plan = plan_or_exit(file)
    deployed, counted = _deployed(settings), read_counted()
    found = bill(plan, deployed, counted)
    lower = levers(plan, deployed, counted, now=found)
    if as_json:
        print_json(document(found, lower, counted))
        return
    count = len(found.credentials)
    say(
        f"{usd(found.usd)} USD a month: {count} credentials at {usd(found.per_credential)}, "
        f"{usd(total(found.deployment))} for the deployment",
        style="bold",
    )
    for title, lines in (("a credential", found.mean), ("the deployment", found.deployment)):
        say(title, style="bold")
        _show(lines)
    if 1 < count <= FEW:
        for name, lines in found.credentials.items():
            say(f"  {name}: {usd(total(lines))}")
    say("what would lower it, each by itself", style="bold")
    for lever in lower:
        say(f"{usd(lever.usd):>9}  {lever.change}{f' ({lever.gives_up})' if lever.gives_up else ''}")
    if found.unconfirmed:
        say(f"not confirmed: the prices {', '.join(found.unconfirmed)}", style="yellow")
    if prices:
        say("prices", style="bold")
        for name in found.prices:
            _show_price(name, PRICES[name])


def _deployed(settings: Path | None) -> Deployed:
    """What the settings say, or exit code 2."""
    if settings is None:
        return Deployed()
    try:
        return Deployed.of_settings(json_in(settings))
    except (OSError, ValueError) as error:
        raise wrong_use(f"{settings} is no file of settings such as cdk.json: {error}") from None


def _show(lines: Iterable[Line]) -> None:
    for line in lines:
        say(f"{usd(line.usd):>9}  {line.cloud.upper()} {line.item}: {number(line.quantity)} {line.rate.unit}")


def _show_price(name: str, price: Price) -> None:
    free = f"; free: {price.free}" if price.free else ""
    doubt = "" if price.confirmed else "; not confirmed"
    say(f"  {name}: {price.usd} USD for {price.per:,} of: {price.unit}, {price.region}{free}{doubt}")
    say(f"    {price.source}, {price.looked_up}; read in {price.seen_in}")


def usd(amount: Fraction) -> str:
    """An amount, as the command shows it."""
    return f"{float(amount):,.3f}"


def number(quantity: Fraction) -> str:
    """A quantity, likewise: three digits at least."""
    value = float(quantity)
    return f"{value:,.0f}" if value >= 100 or quantity.denominator == 1 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def document(found: Bill, lower: Sequence[Lever], counted: Counted) -> Mapping[str, Any]:
    """The same, for other programs."""
    return {
        "usd": _amount(found.usd),
        "usd_per_credential": _amount(found.per_credential),
        "usd_for_the_deployment": _amount(total(found.deployment)),
        "hours": HOURS,
        "calls_counted_on": counted.counted_on,
        "credentials": [
            {"credential": name, "usd": _amount(total(lines)), "items": list(map(_item, lines))}
            for name, lines in found.credentials.items()
        ],
        "deployment": list(map(_item, found.deployment)),
        "would_lower_it": [
            {"change": lever.change, "usd": _amount(lever.usd), "gives_up": lever.gives_up or None}
            for lever in lower
        ],
        "prices": {name: _price(PRICES[name]) for name in found.prices},
    }


def _item(line: Line) -> Mapping[str, Any]:
    return {
        "cloud": line.cloud,
        "item": line.item,
        "quantity": round(float(line.quantity), 6),
        "unit": line.rate.unit,
        "price": line.price,
        "usd": _amount(line.usd),
    }


def _price(price: Price) -> Mapping[str, Any]:
    return {
        "usd": str(price.usd),
        "per": price.per,
        "unit": price.unit,
        "region": price.region,
        "source": price.source,
        "seen_in": price.seen_in,
        "looked_up": price.looked_up.isoformat(),
        "free": price.free or None,
        "confirmed": price.confirmed,
    }


def _amount(amount: Fraction) -> float:
    return round(float(amount), 4)
