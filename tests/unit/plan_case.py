"""Plans to change in places, and the mistakes that are found in them."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lockstep.plan.file import PlanProblemsError, Problem, parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans

Document = dict[str, Any]
Changes = Mapping[str, Any]
"""Other values, each by the path to it, such as `databases.0.host`."""

VALID = plans.plan_document(
    [
        plans.database("shop", Engine.MYSQL, dbname="shop", tls="ca.pem"),
        plans.database("stock", Engine.POSTGRESQL, dbname="stock"),
    ],
    [plans.credential("multi-cloud/app_user", "shop")],
)
BOTH = plans.plan_document(
    [plans.database("shop", Engine.MYSQL), plans.database("stock", Engine.POSTGRESQL)],
    [
        plans.credential("multi-cloud/app_user", "shop"),
        plans.credential(
            "multi-cloud/stock_user", "stock", username="stock", strategy=Strategy.ALTERNATING_USERS
        ),
    ],
    oci=plans.OciNames(),
)
"""A plan for both clouds, with two credentials."""
GONE = "(left out)"
"""In the place of a value: the key is left out. A text, so that the names of tests are the same in each process."""


def edited(of: Mapping[str, Any], changes: Changes) -> Document:
    """A copy with other values; a list may grow by one."""
    document: Document = json.loads(json.dumps(of))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = document
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            place[int(last) : int(last) + 1] = [] if value is GONE else [deepcopy(value)]
        elif value is GONE:
            place.pop(last, None)
        else:
            place[last] = deepcopy(value)
    return document


def parse(document: object) -> Plan:
    return parse_plan(json.dumps(document), base=Path("/etc/lockstep"))


def problems_in(text: str, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(PlanProblemsError) as caught:
        parse_plan(text, base=Path("/etc/lockstep"), environ=environ)
    return tuple(caught.value.problems)


def problems_of(document: object) -> list[str]:
    return [str(replace(problem, mark=None)) for problem in problems_in(json.dumps(document))]
