"""Every event is OCSF 1.5: its class with its profiles, whatever it records."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema
import pytest
import rfc8785
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-untyped]  # no types
from py_ocsf_models.events.base_event import BaseEvent  # type: ignore[import-untyped]  # it ships no types
from py_ocsf_models.objects.cloud import Cloud  # type: ignore[import-untyped]  # as above

from lockstep.audit.entry import event_of, event_of_order
from lockstep.protocol.messages import FailedRun, RotatedRun
from lockstep.protocol.model import LockRecord
from lockstep.protocol.orders import Activate, CancelTakeOver, Order, Pause, Resume, Revoke, TakeOver
from lockstep.protocol.strict_json import read
from tests.fuzz.test_inputs import EVENTS
from tests.support.memory import EPOCH

Event = Mapping[str, Any]

CLASS_UID = 3001
ONE = frozenset({"db-1"})
ORDERS: list[Order] = [
    *(Pause(), Resume(), Revoke(lift_pause=False), Revoke(lift_pause=True, without=ONE)),
    *(TakeOver(databases=ONE), CancelTakeOver(databases=ONE)),
    *(Activate(digest="a" * 64, replaces="b" * 64), Activate(digest="a" * 64, replaces=None)),
]


def of_run(name: str, **more: object) -> Event:
    """The event of a run; `name` is its outcome."""
    (sample,) = (e for e in EVENTS["audit"] if isinstance(e, dict) and e["outcome"] == name)
    kind: type[RotatedRun | FailedRun] = RotatedRun if name == "rotated" else FailedRun
    request = read(kind, {**sample, **more})
    return event_of(request, usernames=("app_a", "app_b"), now=EPOCH)


def of_order(name: str, details: Mapping[str, Any]) -> Event:
    """The event of an order."""
    names = {"entry_id": "order-1", "credential_id": "multi-cloud/app_user", "who": "ocid1.user.oc1..aaaa"}
    return event_of_order(name, details, **names, stream="oci", now=EPOCH)


RECORDED: dict[str, Event] = {
    "rotated": of_run("rotated"),
    "rotated and nothing adopted": of_run("rotated", adopted_from=None),
    "failed before a claim": of_run("failed"),
    "failed with a claim": of_run("failed", claim=EVENTS["audit"][0]["claim"]),
    **{
        f"{number} {order.name}": of_order(order.name, order.details(LockRecord(credential_id="c")))
        for number, order in enumerate(ORDERS)
    },
    "retire": of_order("retire", {"left_valid": [1, 2]}),
}
"""An event of each kind. A new kind of entry is added here."""


@cache
def checker(version: str, profiles: tuple[str, ...]) -> jsonschema.Draft202012Validator:
    """By the schema of a version, of our class with its profiles."""
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version))
    name = schemas.lookup_class_name_from_uid(CLASS_UID)
    return jsonschema.Draft202012Validator(schemas.get_class_schema(name, list(profiles)))


@pytest.mark.parametrize("name", RECORDED)
def test_each_event_is_valid_by_the_schema_of_its_class_in_the_oldest_and_the_newest_version(
    name: str,
) -> None:
    """And it is read by the models of others."""
    event: dict[str, Any] = json.loads(rfc8785.dumps(dict(RECORDED[name])))
    metadata = event["metadata"]
    assert (event["class_uid"], metadata["version"]) == (CLASS_UID, "1.5.0")
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["category_uid"] == event["class_uid"] // 1000
    for version in ("1.2.0", "1.5.0", "1.8.0"):
        told = {**event, "metadata": {**metadata, "version": version}}
        assert list(checker(version, tuple(metadata["profiles"])).iter_errors(told)) == [], version
    found = BaseEvent.model_validate(event)
    assert (found.metadata.uid, found.metadata.product.name) == (metadata["uid"], "Lockstep")
    assert Cloud.model_validate(event["cloud"]).provider in {"AWS", "OCI"}
