"""The tests of the AWS agent, put to this one: each is the same here, or docs/agent.md says why it differs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockstep.agent.values import Values
from tests.agent.harness import Address, FakeStore, answering, secret_of

TESTS = Path(__file__).resolve().parents[1]
ROWS = [
    [cell.strip() for cell in line.split("|")]
    for line in (TESTS / "agent" / "peer.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
ASKED = [row for row in ROWS if len(row) > 2]
ARN = "arn:aws:secretsmanager:us-west-2:123456789012:secret:MyTest-abcdef"
HOW: dict[str, dict[str, Any]] = {
    "": {},
    "no token": {"token": None},
    "bad token": {"token": "click slipers"},
    "vault": {"token": None, "headers": {"X-Vault-Token": "the-token"}},
    "forwarded": {"headers": {"X-Forwarded-For": "54.239.28.85"}},
}


@pytest.fixture(scope="module")
def agent() -> Iterator[Address]:
    store = FakeStore(arn=ARN)
    values = Values([secret_of(n, aws=store, region="us-west-2") for n in ("MyTest", "My/Test")], lambda: 0.0)
    values.refresh()
    with answering(values) as address:
        yield address


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row[0].split()[0])
def test_a_request_is_answered_as_there_or_the_page_says_why_not(agent: Address, row: list[str]) -> None:
    _, path, hows, status, told, *_ = row
    for how in hows.split(","):
        answer = agent.get(path, **HOW.get(how, {"method": how}))
        assert (answer.status, told in answer.body) == (int(status), True), answer


def test_each_of_its_tests_is_here_once_and_the_page_says_what_differs() -> None:
    page = " ".join((TESTS.parent / "docs" / "agent.md").read_text().split())
    why = dict[str, str]()
    for names, *cells in ROWS:
        file, is_test, test = cells[-1].partition("::")
        assert not is_test or f"def {test}" in (TESTS / file).read_text(), cells
        assert why.keys() & set(names.split()) <= {"get_only"}
        why |= dict.fromkeys(names.split(), "" if is_test or len(cells) == 4 else cells[-1])
    for reason in set(why.values()):
        assert reason in page, reason
    same = sum(not reason for reason in why.values())
    assert f"of its {len(why)} tests of secrets at `d47a49d`, {same} are the same here" in page
