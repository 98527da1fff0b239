"""The doctor changes nothing: every request that reaches a cloud is a read, and docs/iam*.md lists the right for it."""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.databases.findings import Outcome
from lockstep.operate.doctor.catalogue import CATALOGUE
from tests.contract.doctor.world import World, running_world

DOCS = Path(__file__).parents[3] / "docs"
_READS = re.compile(r"[a-z0-9]+:(Describe|Get|Head|List)[A-Za-z]+|kms:VerifyMac")
"""What changes nothing, by its name. VerifyMac compares a MAC."""
_SERVICES = {
    "DynamoDB_20120810": "dynamodb",
    "TrentService": "kms",
}
_S3 = {
    ("GET", "versions"): "ListBucketVersions",
    ("GET", "list-type"): "ListBucket",
    ("HEAD", ""): "GetObject",
}
_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/")

Environ = dict[str, object]


class Recorder:
    """A WSGI application in front of the sandbox, which writes down the right that each request needs."""

    def __init__(self, application: Callable[..., object]) -> None:
        self._application = application
        self.actions: list[str] = []

    def __call__(self, environ: Environ, start_response: object) -> object:
        body = environ["wsgi.input"].read(int(str(environ.get("CONTENT_LENGTH") or 0)))  # type: ignore[attr-defined]
        environ["wsgi.input"] = io.BytesIO(body)
        self.actions.append(_action(environ, body))
        return self._application(environ, start_response)


def _action(environ: Environ, body: bytes) -> str:
    method, path = str(environ["REQUEST_METHOD"]), str(environ["PATH_INFO"])
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        service, _, operation = target.rpartition(".")
        return f"{_SERVICES.get(service, service)}:{operation}"
    if found := re.fullmatch(r"/service/(\w+)/operation/(\w+)", path):
        return f"{_SERVICES.get(found[1], found[1])}:{found[2]}"
    scope = _SCOPE.search(str(environ.get("HTTP_AUTHORIZATION", "")))
    service = scope[1] if scope else "?"
    if action := parse_qs(body.decode(errors="replace")).get("Action"):
        return f"{service}:{action[0]}"
    query = set(parse_qs(str(environ.get("QUERY_STRING", "")), keep_blank_values=True))
    known = [name for (verb, word), name in _S3.items() if verb == method and (not word or word in query)]
    return f"s3:{known[0] if known else f'{method} {path}'}"


class Recorded:
    """A world whose requests are written down.

    Attributes:
        world: It.
        actions: The rights in AWS that the requests so far needed.
    """

    def __init__(self, world: World, recorder: Recorder) -> None:
        self.world, self.actions = world, recorder.actions


@contextmanager
def recorded(folder: Path) -> Iterator[Recorded]:
    """Start a world, and forget the requests that made it."""
    recorders: list[Recorder] = []

    def record(application: Callable[..., object]) -> Recorder:
        recorders.append(Recorder(application))
        return recorders[0]

    with running_world(folder, in_front_of_aws=record) as world:
        recorders[0].actions.clear()
        world.oci.calls.clear()
        yield Recorded(world, recorders[0])


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[World]:
    with recorded(tmp_path) as one:
        yield one.world


def documented(page: str) -> set[str]:
    """The rights in the section about the doctor."""
    section = (DOCS / page).read_text().split("## What `lockstep doctor` reads")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return {right for row in rows for right in re.findall(r"`([^`]+)`", row)}


def test_every_request_is_a_read_and_its_right_is_documented(tmp_path: Path) -> None:
    with recorded(tmp_path) as one:
        options = ["--plan", str(one.world.plan_file), "--only", "aws", "--only", "oci"]
        shown = CliRunner().invoke(app, ["doctor", *options])
        assert shown.exit_code == 0, shown.output
        used = set(one.actions)
        operations = {record.operation for record in one.world.oci.calls.records}
        assert operations
        assert [o for o in operations if not o.startswith(("get_", "head_", "list_"))] == []
    assert {action for action in used if not _READS.fullmatch(action)} == set()
    assert used == documented("iam.md")


def _limited(world: World, permissions: set[str]) -> None:
    principal = world.oci.identity.principal("administrator")
    principal.is_administrator = False
    principal.grants.clear()
    world.oci.identity.permit("administrator", *sorted(permissions))


def _describe(world: World) -> Mapping[str, set[Outcome]]:
    asked = [check for check in CATALOGUE if check.group == "oci"]
    found = world.examined(asked)
    return {check: {f.outcome for f in found if f.check == check} for check in {f.check for f in found}}


def test_in_oci_it_needs_what_the_page_lists_and_nothing_else(world: World) -> None:
    listed = documented("iam-oci.md")
    _limited(world, listed)
    assert {outcome for outcomes in _describe(world).values() for outcome in outcomes} == {Outcome.PASSED}
    for permission in sorted(listed):
        _limited(world, listed - {permission})
        assert {o for outcomes in _describe(world).values() for o in outcomes} & {
            Outcome.FAILED,
            Outcome.NOT_ASKED,
        }, permission
