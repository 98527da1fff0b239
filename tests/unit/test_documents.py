"""What `status --json` and `history --json` print is what their schemas in docs/ say."""

from datetime import UTC, datetime
from functools import partial

import jsonschema
import msgspec
import pytest

from lockstep.operate.documents import History, Run, Status
from lockstep.operate.state import Answer, StoreSnapshot, document, state_of
from lockstep.protocol.errors import StoreUnreachableError
from lockstep.protocol.model import LockRecord, StoredValue
from tests.support.documents import require_document
from tests.unit.test_cli import FORECASTS, NOW, PLANNED, names_of

IN_LOG = partial(
    Run,
    credential=PLANNED.id,
    cloud="aws",
    seq=7,
    rotation_id="run-7",
    ended_at=datetime(2026, 1, 1, tzinfo=UTC),
)
RUN = IN_LOG(outcome="failed", error="PlanNotActiveError", trigger="schedule")
ARCHIVED = IN_LOG(outcome="archived")


@pytest.mark.parametrize("case", FORECASTS.values(), ids=FORECASTS)
def test_each_state_of_a_credential_is_by_the_schema(
    case: tuple[LockRecord, list[StoredValue], bool, str, str | None],
) -> None:
    record, values, *_ = case
    read: dict[str, Answer] = {f"store-{n}": v for n, v in enumerate(values)}
    named: dict[str, Answer] = {name: names_of(v) for name, v in zip(read, values, strict=True)}
    for look in (
        StoreSnapshot(depth="values", answers=read, pending_since=None),
        StoreSnapshot(depth="names", answers=named, pending_since=NOW),
        StoreSnapshot(depth="names", answers={**named, "away": StoreUnreachableError()}, pending_since=None),
        StoreSnapshot(depth="names", answers=named, pending_since=StoreUnreachableError()),
    ):
        for last_run in (None, RUN, ARCHIVED):
            state = state_of(record, PLANNED, look, NOW, has_standby=True, last_run=last_run, unread={})
            told = Status(in_sync=bool(state.is_in_sync), credentials=[document(state, NOW)])
            require_document("status", msgspec.to_builtins(told))


def test_a_run_is_by_the_schema() -> None:
    for run in (RUN, ARCHIVED):
        require_document("history", msgspec.to_builtins(History(runs=[run], problems=[])))


def test_a_field_that_the_schema_lacks_is_found() -> None:
    with pytest.raises(jsonschema.ValidationError, match="new_field"):
        require_document("history", {"runs": [], "problems": [], "new_field": 1})
