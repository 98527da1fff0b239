"""`docs/iam.md` lists exactly the synthesised permissions."""

import re
from pathlib import Path

import pytest

from cdk.bundle import ROOT
from sandbox.emulators.aws.policies import as_list
from tests.infrastructure.cdk_case import BOTH_CLOUDS, FEDERATED, PLAN, READERS, VPC, WITH_EVENTS, synthesised

_ROW = re.compile(r"\| (?P<cells>[^|]+(?: \| [^|]+){4}) \| (?P<why>[^|]+) \|")
NOTHING = "\N{EN DASH}"
_HEADINGS = ("role", "statement", "may", "on", "if")


def _documented(section: str) -> set[tuple[str, ...]]:
    text = (ROOT / "docs" / "iam.md").read_text()
    (part,) = (p for p in text.split("\n## ") if p.startswith(section))
    rows = [
        tuple("" if cell == NOTHING else cell for cell in match["cells"].split(" | "))
        for line in part.splitlines()
        if (match := _ROW.fullmatch(line))
    ]
    return {row for row in rows if row[:5] != _HEADINGS and not row[0].startswith("---")}


def _rows(**settings: object) -> set[tuple[str, ...]]:
    stack = synthesised(**settings)
    return {stack.row(title, statement) for title, statement in stack.policies()}


def test_the_page_lists_the_permissions_of_every_role() -> None:
    assert _documented("The roles") == _rows()


def test_the_page_lists_what_a_store_in_oci_and_a_vpc_add() -> None:
    more = _rows(plan=BOTH_CLOUDS, vpc=VPC)
    assert _rows() <= more
    assert _documented("With a store in OCI") == more - _rows()


def test_the_page_lists_what_events_add() -> None:
    assert _documented("With events") == _rows(plan=WITH_EVENTS) - _rows()


def test_the_page_lists_what_sessions_add_and_take_away() -> None:
    keys, sessions = _rows(plan=BOTH_CLOUDS), _rows(plan=FEDERATED)
    assert _documented("With sessions") == sessions - keys
    assert {row[1] for row in keys - sessions} == {"OciKey", "OciKeyKey"}


def test_the_page_lists_what_a_key_of_readers_changes() -> None:
    one_key, two_keys = _rows(plan=BOTH_CLOUDS), _rows(plan=READERS)
    assert _documented("With a key of its own") == two_keys - one_key
    gone = {(row[0], row[1]) for row in one_key - two_keys}
    assert gone == {("apply_db", "OciKey"), ("digest", "OciKey")}


@pytest.mark.parametrize(
    ("plan", "services"),
    [(BOTH_CLOUDS, {"ec2", "logs", "xray"}), (FEDERATED, {"ec2", "logs", "sts", "xray"})],
)
def test_only_actions_without_resource_types_are_allowed_on_everything(
    plan: Path, services: set[str]
) -> None:
    everything = {
        action
        for _, statement in synthesised(plan=plan, vpc=VPC).policies()
        if "*" in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
    }
    assert {action.partition(":")[0] for action in everything} == services
    assert not any("*" in action for action in everything)


@pytest.mark.parametrize("plan", [PLAN, BOTH_CLOUDS, FEDERATED])
def test_only_services_assume_the_roles_but_for_that_of_the_oci_runner(plan: Path) -> None:
    roles = synthesised(plan=plan).resources("AWS::IAM::Role")
    services = {
        statement["Principal"]["Service"]
        for name, role in roles.items()
        for statement in role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        if not name.startswith("OciRunnerRole")
    }
    assert services == {"events.amazonaws.com", "lambda.amazonaws.com", "states.amazonaws.com"}
