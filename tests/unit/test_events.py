"""What events say, by which ids, and that nothing of them is loaded where none is sent."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cdk.artefacts import PIPX
from functions.announce.ended import ended
from lockstep.cli.orders import order_context
from lockstep.protocol.errors import InvalidRequestError
from lockstep.protocol.events import NAMES, PREFIX, Failed, Paused, PreviousDies, of_promotion
from lockstep.protocol.messages import Entry, Promoted
from lockstep.protocol.model import ChainHead
from lockstep.protocol.strict_json import write
from tests.support.event_examples import PROMOTED, examples
from tests.support.memory import make_plan
from tests.unit.test_plan_mistakes import BOTH, TOPIC, edited, parse

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
OVERLAP = datetime(2026, 11, 27, 12, 16, tzinfo=UTC)
CREDENTIAL = make_plan().credentials[0].id
_is_known = {c.id for c in make_plan().credentials}.__contains__


def promoted(**more: object) -> Promoted:
    given = {"rotation": "run-1", "promoted_at": AT, "overlap_ends_at": OVERLAP, **more}
    return structs.replace(PROMOTED, **given)


# What is told


def test_a_promotion_tells_when_the_previous_value_dies() -> None:
    """An emergency tells that it is revoked already; where nothing dies, nothing is told of it."""
    revoked: dict[str, object] = {"revoked": True, "overlap_ends_at": None}
    for more, dies_at, reason in (({}, OVERLAP, "overlap"), (revoked, AT, "revoked")):
        first, dies = of_promotion(promoted(**more))
        assert first == promoted(**more)
        assert isinstance(dies, PreviousDies)
        assert (dies.previous_generation, dies.dies_at, dies.reason) == (7, dies_at, reason)
    reconcile: dict[str, object] = {"kind": "reconcile", "overlap_ends_at": None}
    for dead in (promoted(**reconcile), promoted(previous_generation=0)):
        assert of_promotion(dead) == (dead,)


# The end of an execution


def execution(status: str = "SUCCEEDED", **more: object) -> dict[str, Any]:
    rotated = {"outcome": "rotated", "promoted": write(promoted(credential=CREDENTIAL, stores=("aws",)))}
    done = {"generation": 8, "kind": "new", "adopted": False, "audit": {"stream": "aws", "seq": 42}}
    detail = {
        "executionArn": "arn:aws:states:eu-central-1:123456789012:execution:lockstep:run-1",
        "name": "run-1",
        "status": status,
        "stopDate": int(AT.timestamp() * 1000),
        "input": json.dumps({"credential_id": CREDENTIAL, "trigger": "schedule"}),
        "output": json.dumps(rotated | done) if status == "SUCCEEDED" else None,
    }
    return {"detail": {**detail, **more}}


def of(event: dict[str, Any], error: str | None = None) -> Any:  # noqa: ANN401 - None, or a tuple
    run = ended(event, _is_known)
    return None if run is None else run.event_data(error)


def test_a_rotation_that_has_ended() -> None:
    first, second = of(execution())
    assert first == promoted(credential=CREDENTIAL, stores=("aws",))
    assert second.dies_at == OVERLAP
    for output in ('{"outcome":"skipped"}', "null"):
        assert of(execution(output=output)) == ()


def test_a_run_that_has_failed_passes_on_the_name_of_its_error_and_no_text() -> None:
    name = "DatabaseUnreachableError"
    for status in ("FAILED", "TIMED_OUT", "ABORTED"):
        for error, named in ((name, name), (None, None), ("it said: hunter2!", None), ("x" * 101, None)):
            [failed] = of(execution(status), error)
            assert isinstance(failed, Failed)
            assert (failed.status, failed.error, failed.rotation) == (status.lower(), named, "run-1")


def test_what_rotates_no_credential_of_the_plan_is_not_told_and_another_event_is_refused() -> None:
    """Nor is it where the input was left out of the event, as Step Functions does with a long one."""
    for given in (json.dumps({"credential_id": "of/another-plan"}), "[1]", "no JSON", None):
        assert of(execution("FAILED", input=given, inputDetails={"included": given is not None})) is None
    others: list[Any] = [{}, [], None, {"detail": 1}, {"detail": {"status": "RUNNING"}}, execution("RUNNING")]
    for event in others:
        with pytest.raises(InvalidRequestError):
            ended(event, _is_known)


# What operators do


def test_an_operator_without_the_sdk_of_oracle_cloud_is_told_that_it_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the command would seem to have failed, and the credentials after it would be left out."""
    plan = parse(edited(BOTH, {"events": {"oci": TOPIC}}))
    monkeypatch.setitem(sys.modules, "oci", None)
    monkeypatch.delitem(sys.modules, "lockstep.oci.notifications", raising=False)
    paused = Paused(credential=CREDENTIAL, entry=Entry(stream="aws", seq=1))
    order_context(plan).publish(paused, ChainHead(seq=1, hash="order-1"))
    shown = " ".join(capsys.readouterr().err.split())
    assert f"{CREDENTIAL}: done, but events.oci did not take its event: OciExtraMissingError" in shown
    assert PIPX in shown


# The page


def test_the_page_shows_one_event_and_tells_of_each_field_of_each_kind() -> None:
    page = (ROOT / "docs" / "events.md").read_text()
    found = examples()
    assert found.keys() == NAMES.keys()
    for kind, example in found.items():
        assert example["type"] == f"{PREFIX}.{NAMES[kind]}"
        section = page.partition(f"\n## {example['type']}\n")[2].partition("\n## ")[0]
        shown = section.partition("```json\n")[2].partition("```")[0]
        assert json.loads(shown) == example if kind is Promoted else not shown
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)[1:] == list(example["data"])
