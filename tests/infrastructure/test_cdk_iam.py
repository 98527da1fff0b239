"""`docs/iam.md` lists exactly the synthesised permissions."""

import re

import pytest

from cdk.bundle import ROOT
from sandbox.emulators.aws.policies import as_list
from tests.infrastructure.cdk_case import SHAPES, shape

_ROW = re.compile(r"\| (?P<cells>[^|]+(?: \| [^|]+){4}) \| (?P<why>[^|]+) \|")
_NOTHING = "\N{EN DASH}"
NO_RESOURCE = {
    "DeliverLogs",
    "FromCodeOnly",
    "Network",
    "NotFromCode",
    "OciToken",
    "Trace",
}
"""The statements on everything: calls that know no resource, or denials."""


def _documented(section: str) -> set[tuple[str, ...]]:
    text = (ROOT / "docs" / "iam.md").read_text()
    (part,) = (p for p in text.split("\n## ") if p.startswith(section))
    rows = [match["cells"].split(" | ") for line in part.splitlines() if (match := _ROW.fullmatch(line))]
    return {
        (
            role,
            *("" if cell == _NOTHING else cell.replace("<role>", role.replace("_", "-")) for cell in cells),
        )
        for roles, *cells in rows
        if roles != "role" and not roles.startswith("---")
        for role in roles.split(", ")
    }


@pytest.mark.parametrize(
    ("section", "wanted", "before", "gone"),
    [
        ("The roles", "plain", None, set()),
        ("With a store in OCI", "both", "plain", set()),
        ("With events", "events", "plain", set()),
        (
            "With sessions",
            "federated",
            "both",
            {
                (step, sid)
                for step in ("generate", "apply_db", "update_secrets", "digest")
                for sid in ("OciKey", "OciKeyKey")
            },
        ),
        ("With a key of its own", "readers", "both", {("apply_db", "OciKey"), ("digest", "OciKey")}),
    ],
)
def test_the_page_lists_what_each_part_of_a_plan_gives_and_takes_away(
    section: str, wanted: str, before: str | None, gone: set[tuple[str, str]]
) -> None:
    had, has = shape(before).rows() if before else set(), shape(wanted).rows()
    assert _documented(section) == has - had
    assert {row[:2] for row in had - has} == gone


@pytest.mark.parametrize("name", SHAPES)
def test_no_right_is_wider_than_a_kind_of_resource_and_services_alone_assume_the_roles(name: str) -> None:
    found = shape(name)
    for title, statements in found.policies.items():
        for statement in statements:
            assert statement["Effect"] == "Deny" or "*" not in "".join(as_list(statement["Action"])), title
            if "*" in as_list(statement["Resource"]):
                assert statement["Sid"] in NO_RESOURCE, (title, statement)
    services = {
        statement["Principal"]["Service"]
        for role, properties in ((n, r["Properties"]) for n, r in found.resources("AWS::IAM::Role").items())
        for statement in properties["AssumeRolePolicyDocument"]["Statement"]
        if not role.startswith("OciRunnerRole")
    }
    assert services == {"events.amazonaws.com", "lambda.amazonaws.com", "states.amazonaws.com"}


def test_with_rds_iam_both_runners_log_in_as_the_rotation_user_of_any_database_and_nobody_else() -> None:
    logins = shape("iam").statements("DatabaseLogin")
    assert logins.keys() == {"apply_db", "OCI runner"}
    for statement in logins.values():
        assert statement["Action"] == "rds-db:connect"
        assert statement["Resource"] == "arn:aws:rds-db:eu-central-1:111122223333:dbuser:*/lockstep_rotator"
