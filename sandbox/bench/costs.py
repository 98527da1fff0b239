"""What the example plan costs a month, as `lockstep cost` counts and prices it."""

from typing import Any

from lockstep.cost import Deployed, bill, read_counted
from lockstep.plan_file import load_plan
from sandbox.bench.starts import EXAMPLE_PLAN


def costs() -> dict[str, Any]:
    """US dollars, for a mean credential by item, and for all."""
    counted = read_counted()
    found = bill(load_plan(EXAMPLE_PLAN), Deployed(), counted)
    items = {f"{line.cloud}: {line.item}": round(float(line.usd), 3) for line in found.mean}
    return {
        "usd_per_credential": round(float(found.per_credential), 3),
        "usd": round(float(found.usd), 3),
        "calls_counted_on": counted.counted_on,
        "items": {item: usd for item, usd in items.items() if usd},
    }
