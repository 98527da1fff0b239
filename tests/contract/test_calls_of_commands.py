"""What the commands of a person send to both clouds, and that docs/iam.md lists the right for each call."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from lockstep.plan.limits import WRITES_OF_A_ROTATION
from lockstep.protocol.ring import SLOTS
from sandbox.emulators.oci import write_config_file
from tests.contract.counted import World, world
from tests.contract.person import ACTS, Person, run


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    """Both clouds, one database, the audit bucket of OCI in its default tier; each runner has rotated."""
    with world() as found:
        found.by_aws()
        found.by_oci()
        yield found


def calls_of(running: World, *words: str, code: int = 0) -> Counter[str]:
    """What a command sends, as service and operation."""
    shown: list[Result] = []
    found = running.of(lambda: shown.append(run(*words)), "it")
    assert shown[0].exit_code == code, shown[0].output
    return Counter({call.removeprefix("it "): number for call, number in found.items()})


def test_a_rotation_writes_to_secrets_manager_as_often_as_the_pace_reckons(running: World) -> None:
    writes = {"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage"}
    found = running.by_aws()
    assert sum(n for call, n in found.items() if call.split()[-1] in writes) == WRITES_OF_A_ROTATION


def test_status_reads_no_value_and_no_key(running: World) -> None:
    """It looks at lists, the lock record, the first entry of each log that is a run's, and for digests."""
    found = calls_of(running, "status")
    assert found == {
        "dynamodb GetItem": 1,
        "secretsmanager DescribeSecret": 2,
        "vault list_secrets": 2 * SLOTS,
        "vault list_secret_versions": 2 * SLOTS,
        "s3 GET": 4,
        "objectstorage list_objects": 3,
        "objectstorage get_object": 1,
        "objectstorage head_object": 1,
    }
    told = " ".join(found)
    assert not any(word in told for word in ("GetSecretValue", "bundle", "Decrypt", "Mac", "kms"))


def test_only_read_values_reads_values(running: World) -> None:
    by_names, by_values = calls_of(running, "status"), calls_of(running, "status", "--read-values")
    assert by_values - by_names == {
        "secretsmanager GetSecretValue": 2,
        "secrets get_secret_bundle": 2 * SLOTS,
    }


def test_history_reads_no_key(running: World) -> None:
    found = calls_of(running, "history")
    assert {"dynamodb", "s3", "objectstorage"} == {call.split()[0] for call in found}
    shown = run("history").stdout
    assert "oci: a run, whose entry 1 is archived and was not read" in shown


# The rights that docs/iam.md lists for a person

NOT_ALWAYS = {"kms:VerifyMac", "s3:ListBucket", "dynamodb:Scan"}
"""An entry that is appended needs these where the log does not end where the lock record says; `serve` scans the table
where there are many credentials.
"""
PAGE = Path(__file__).parents[2] / "docs" / "iam.md"


def documented() -> dict[str, set[str]]:
    """The actions of each row of the table, by the text of its first column."""
    section = PAGE.read_text().split("## A person at the command line")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    found: dict[str, set[str]] = {}
    for title, may, *_ in rows:
        actions = set(re.findall(r"`([a-z0-9]+:[A-Za-z]+)`", may))
        for other, theirs in list(found.items()):
            first = other.split("`, `")[0].strip("`")
            if re.search(rf"as (`{re.escape(first)}`|{re.escape(first.split(':')[0])})(?![\w:])", may):
                actions |= theirs
        found[title] = actions
    return found


def test_each_row_of_the_page_has_its_commands() -> None:
    assert [first_of(title) for title in documented()] == list(ACTS)


def first_of(title: str) -> str:
    return title.split(":", maxsplit=1)[0].split("`, ", maxsplit=1)[0].strip("`")


@pytest.mark.parametrize("title", ACTS)
def test_a_person_needs_what_the_page_lists_and_no_more(running: World, title: str, tmp_path: Path) -> None:
    [listed] = [actions for row, actions in documented().items() if first_of(row) == title]
    person = Person(running, listed, tmp_path)
    ACTS[title](person)
    assert listed - NOT_ALWAYS <= person.used <= listed


# The permissions that docs/iam-oci.md lists

OCI_PAGE = PAGE.with_name("iam-oci.md")
NUMBERS = itertools.count(1)
REFUSED = re.compile("AccessDenied|BucketNotFound")
"""Object Storage tells nobody who lacks a right that there is a bucket."""


def listed_in_oci(command: str) -> dict[str, set[str]]:
    """The permissions that the page lists for a command, by where it has them."""
    section = OCI_PAGE.read_text().split("## A person at the command line")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {
        place: set(re.findall(r"`([A-Z_]+)`", may))
        for title, may, place in rows
        if f"`{command}`" in title.split(", ")
    }


def as_person_in_oci(running: World, tmp_path: Path, ring: set[str], log: set[str], *words: str) -> Result:
    """Run a command as an identity that has these permissions."""
    cloud, name = running.estate.oci, f"person-{next(NUMBERS)}"
    cloud.identity.permit(name, *log, compartment=cloud.own_compartment_id)
    key = cloud.new_api_key(name, *ring, compartment=cloud.compartment_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCI_CONFIG_FILE", str(write_config_file(tmp_path, name, key)))
        return run(*words)


@pytest.mark.parametrize("command", ["status", "history"])
def test_in_oci_a_person_needs_what_the_page_lists(running: World, tmp_path: Path, command: str) -> None:
    listed = listed_in_oci(command)
    ring = listed.get("the rings' compartment", set())
    log = listed["the audit bucket"] | listed.get("Lockstep's own compartment", set())
    shown = as_person_in_oci(running, tmp_path, ring, log, command)
    assert (shown.exit_code, REFUSED.search(shown.output)) == (0, None), shown.output
    for lacking in ring | log:
        less = as_person_in_oci(running, tmp_path, ring - {lacking}, log - {lacking}, command)
        assert REFUSED.search(less.output), f"without {lacking}: {less.output}"


def test_with_read_values_a_person_needs_one_permission_more(running: World, tmp_path: Path) -> None:
    listed = listed_in_oci("status")
    ring, log = listed["the rings' compartment"], listed["the audit bucket"]
    more = ring | listed_in_oci("status --read-values")["the rings' compartment"]
    words = ("status", "--read-values")
    assert as_person_in_oci(running, tmp_path, more, log, *words).exit_code == 0
    less = as_person_in_oci(running, tmp_path, ring, log, *words)
    assert (less.exit_code, "AccessDenied" in less.output) == (1, True)
