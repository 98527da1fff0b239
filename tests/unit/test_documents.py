"""What `status --json` and `history --json` print is what their schemas in docs/ say."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from lockstep.cli import history, status
from lockstep.cli.documents import DOCUMENTS, schema
from lockstep.errors import LockstepError, StoreUnreachableError
from lockstep.model import LockRecord, StoredValue
from tests.support.documents import require_document
from tests.unit.test_cli import FORECASTS, NOW, PLANNED

DOCS = Path(__file__).parents[2] / "docs"
RUN = history.Run(
    credential=PLANNED,
    cloud="aws",
    seq=7,
    rotation_id="run-7",
    ended_at=datetime(2026, 1, 1, tzinfo=UTC),
    seconds=None,
    error="PlanNotActiveError",
    generation=None,
    trigger="schedule",
)


@pytest.mark.parametrize("command", DOCUMENTS)
def test_the_schema_is_in_the_documentation(command: str) -> None:
    written = DOCS / f"{command}.schema.json"
    again = f"run: python -m lockstep.cli.documents {command} > docs/{command}.schema.json"
    assert json.loads(written.read_text()) == schema(command), again


@pytest.mark.parametrize("case", FORECASTS.values(), ids=FORECASTS)
def test_each_state_of_a_credential_is_by_the_schema(
    case: tuple[LockRecord, list[StoredValue], bool, str, str | None],
) -> None:
    record, values, *_ = case
    served: dict[str, StoredValue | LockstepError] = {f"store-{n}": v for n, v in enumerate(values)}
    for last_run, found in ((None, served), (RUN, {**served, "away": StoreUnreachableError()})):
        state = status.state_of(record, PLANNED, found, NOW, has_standby=True, last_run=last_run, unread={})
        require_document(
            "status", {"in_step": bool(state.is_in_step), "credentials": [status.document(state, NOW)]}
        )


def test_a_run_is_by_the_schema() -> None:
    require_document("history", {"runs": [history.document(RUN)], "problems": []})


def test_a_field_that_the_schema_lacks_is_found() -> None:
    with pytest.raises(jsonschema.ValidationError, match="new_field"):
        require_document("history", {"runs": [], "problems": [], "new_field": 1})
