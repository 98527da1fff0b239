"""Plans to change in one place, and the mistakes that are found in them."""

import json
from pathlib import Path
from typing import Any

import pytest

from lockstep.plan.file import PlanProblemsError, parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine, Strategy
from sandbox import plans

VALID = plans.plan_document(
    [
        plans.database("shop", Engine.MYSQL, dbname="shop", tls="ca.pem"),
        plans.database("stock", Engine.POSTGRESQL, dbname="stock"),
    ],
    [plans.credential("multi-cloud/app_user", "shop")],
)
[OCI_STORE] = plans.plan_document([], [], oci=plans.OciNames())["stores"][1:]


BOTH = plans.plan_document(
    [plans.database("shop", Engine.MYSQL), plans.database("stock", Engine.POSTGRESQL)],
    [
        plans.credential("multi-cloud/app_user", "shop"),
        plans.credential(
            "multi-cloud/stock_user",
            "stock",
            username="stock",
            strategy=Strategy.ALTERNATING_USERS,
        ),
    ],
    oci=plans.OciNames(),
)
"""A plan for both clouds, with two credentials."""


def with_value(path: str, value: object, *, of: object = VALID) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(of))
    *parents, last = path.split(".")
    place: Any = document
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    if isinstance(place, list) and int(last) == len(place):
        place.append(value)
    else:
        place[int(last) if last.isdigit() else last] = value
    return document


def parse(document: object) -> Plan:
    return parse_plan(json.dumps(document), base=Path("/etc/lockstep"))


def problems_of(document: object) -> list[str]:
    with pytest.raises(PlanProblemsError) as caught:
        parse(document)
    return [problem.described for problem in caught.value.problems]
