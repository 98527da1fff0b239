"""Every command in environments that are wrong, and with arguments that are: one line, an exit code, no traceback."""

import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.utils import ContainerMetadataFetcher
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner, Result

from lockstep.aws import clients
from lockstep.cli import app
from lockstep.protocol.errors import (
    Environment,
)
from lockstep.protocol.model import Engine
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.config_file import write_config_file
from tests.fuzz.environments import ANSWERS, AWS, CANARY, KEYS, OCI, Broken
from tests.fuzz.garbage_server import GarbageServer
from tests.fuzz.harness import characters, counted, inputs
from tests.support.cli_paths import paths

CREDENTIAL = "multi-cloud/app_user"
PLAN = plans.plan_document(
    [plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")],
    [plans.credential(CREDENTIAL, "orders", username="app_user")],
    oci=plans.OciNames(),
)
CLOUD = {
    *[
        ("doctor",),
        ("status",),
        ("serve",),
        ("secrets", "tag"),
        ("rotate",),
        ("pause",),
        ("resume",),
        ("take-over",),
        ("unblock",),
        ("import",),
    ],
    *[("retire",), ("apply",), ("lock", "show"), ("lock", "release")],
    *[("audit", name) for name in ("verify", "show", "report")],
}
"""Commands that call AWS first. Others may be run in any environment, too."""
NEEDS_OCI = {("doctor",), ("status",), ("audit", "verify"), ("audit", "report")}
"""Commands that go on with OCI where AWS answers that nothing is there yet."""
GIVEN = {
    ("rotate",): [CREDENTIAL, "--force"],
    ("pause",): [CREDENTIAL],
    ("resume",): ["--all"],
    ("take-over",): [CREDENTIAL, "orders"],
    ("unblock",): [CREDENTIAL, "orders"],
    ("import",): [CREDENTIAL, "--from-secret", "before"],
    ("retire",): [CREDENTIAL],
    ("apply",): [CREDENTIAL],
    ("lock", "release"): [CREDENTIAL, "--holder", "run-1", "--yes"],
    ("plan", "diff"): ["lockstep.yaml", "lockstep.yaml"],
}
SET_HERE = ("AWS_", "OCI_", "LOCKSTEP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy")


def commands() -> list[tuple[str, ...]]:
    """Every command that does something; the groups only have others."""
    found = list(paths())
    return [p for p in found if not any(q[: len(p)] == p and q != p for q in found)]


@cache
def command_of(path: tuple[str, ...]) -> Any:  # noqa: ANN401 - of the parser
    """The command at the end of a path."""
    found: Any = get_command(app)
    for word in path:
        found = found.commands[word]
    return found


def words_of(path: tuple[str, ...]) -> list[str]:
    """A command with what it requires."""
    if path in GIVEN:
        return [*path, *GIVEN[path]]
    required = [p for p in command_of(path).params if p.required]
    return [
        *path,
        *(w for p in required for w in ([*p.opts[:1], "x"] if p.param_type_name == "option" else ["x"])),
    ]


def has_json(path: tuple[str, ...]) -> bool:
    """Whether the command prints a document."""
    return "--json" in command_of(path).takes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the commands run, with the plan; nothing is set, and no answer is kept of before."""
    for name in os.environ:
        if name.startswith(SET_HERE):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # It tries three times, a second apart.
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    plans.write_plan(tmp_path / "lockstep.yaml", PLAN)
    clients.botocore_session.cache_clear()
    yield tmp_path
    clients.botocore_session.cache_clear()


def run(words: Sequence[str], what: str) -> Result:
    """Run a command; whatever happens, it says what in lines and an exit code, and shows no secret."""
    counted[what] += 1
    shown = CliRunner().invoke(app, list(words), input="")
    told = f"{words}: {shown.exit_code}\n{shown.output}"
    assert isinstance(shown.exception, SystemExit | None), told
    assert shown.exit_code in {0, 1, 2, 3}, told
    assert "Traceback" not in shown.output, told
    assert "UnexpectedError" not in shown.output, told
    assert CANARY not in shown.output, told
    if "--json" in words and shown.exit_code:
        assert isinstance(json.loads(shown.stdout), dict), told
    return shown


def run_all(among: set[tuple[str, ...]], expected: str, what: str, *, as_json: bool = False) -> None:
    """Run every command; those that call the cloud must name the error in one line."""
    for path in commands():
        shown = run([*words_of(path), *(["--json"] if as_json and has_json(path) else [])], what)
        if path not in among:
            continue
        told = f"{path}: {shown.exit_code}\n{shown.output}"
        assert shown.exit_code == 3, told
        assert expected in shown.output, told
        assert "`" in shown.output or "set " in shown.output, told
        lines = [line for line in shown.stderr.splitlines() if not line.endswith(": not done")]
        assert len(lines) <= 1, told


@pytest.mark.parametrize("broken", AWS.values(), ids=AWS)
def test_every_command_where_aws_cannot_be_called(
    broken: Broken, folder: Path, monkeypatch: pytest.MonkeyPatch, aws: AwsSandbox
) -> None:
    for name, value in broken.made(folder, aws.url.removeprefix("http://")).items():
        monkeypatch.setenv(name, value)
    as_json = list(AWS.values()).index(broken) % 2 == 1
    run_all(CLOUD, broken.told, "commands_environment", as_json=as_json)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("status", "code", "text", "told"), ANSWERS.values(), ids=ANSWERS)
def test_every_command_where_aws_refuses(
    status: int, code: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both dialects: DynamoDB, Secrets Manager and Step Functions answer in JSON, S3 and STS in XML.
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": text}).encode()
    with GarbageServer() as server:
        server.reply = (
            f"HTTP/1.1 {status} Bad\r\nContent-Type: application/x-amz-json-1.0\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.endpoint}.items():
            monkeypatch.setenv(name, value)
        lock = {("status",), ("lock", "show"), ("audit", "show")}
        # Verification needs no lock table.
        among = lock if told == Environment.LOCK_TABLE_MISSING.error_name else {*lock, ("audit", "verify")}
        run_all(among, told, "commands_refused")


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsSandbox]:
    """An account with nothing but a lock table."""
    with AwsSandbox() as sandbox:
        create_lock_table(sandbox.client("dynamodb"), plans.LOCK_TABLE)
        yield sandbox


def test_a_fingerprint_that_oci_does_not_know(
    folder: Path, monkeypatch: pytest.MonkeyPatch, aws: AwsSandbox
) -> None:
    with OciSandbox() as oci:
        config = {**oci.config(), "fingerprint": ":".join(["0a"] * 16)}
        file = write_config_file(folder, "wrong", config)
        for name, value in {**aws.environment(), "OCI_CONFIG_FILE": str(file)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LOCKSTEP_OCI_ENDPOINT", oci.endpoint)
        assert "store oci: OciIdentityRefusedError: " in run(["status"], "commands_oci").stdout


@pytest.mark.parametrize("broken", OCI.values(), ids=OCI)
def test_every_command_where_oci_cannot_be_called(
    broken: Broken, folder: Path, monkeypatch: pytest.MonkeyPatch, aws: AwsSandbox
) -> None:
    for name, value in {**aws.environment(), **broken.made(folder)}.items():
        monkeypatch.setenv(name, value)
    for path in NEEDS_OCI:
        shown = run([*words_of(path), *(["--json"] if has_json(path) else [])], "commands_oci")
        assert shown.exit_code in {1, 3}
        if path == ("status",):
            assert broken.told in shown.output


WORDS = st.one_of(
    st.sampled_from([w for path in paths() for w in path]),
    st.sampled_from(["--json", "-h", "--plan", "-p", "--stack", "--dry-run", "--all", "-n", "--", "-", ""]),
    st.sampled_from(
        [CREDENTIAL, "orders", "aws", "oci", "lockstep.yaml", "/", "/dev/null", "\0", "--=", "-1"]
    ),
    st.text(characters, max_size=8),
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As `folder`, for a whole test."""
    made = tmp_path_factory.mktemp("arguments")
    plans.write_plan(made / "lockstep.yaml", PLAN)
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(SET_HERE):
                patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.chdir(made)
        clients.botocore_session.cache_clear()
        yield made
        clients.botocore_session.cache_clear()


@inputs(200)
@given(path=st.sampled_from(commands()), more=st.lists(WORDS, max_size=5), prefix=st.booleans())
def test_any_arguments(empty: Path, path: tuple[str, ...], more: list[str], *, prefix: bool) -> None:
    assert empty.is_dir()
    run([*(words_of(path) if prefix else path), *more], "commands_arguments")
