"""Every command in environments that are wrong, and with arguments that are: one line, an exit code, no traceback."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from lockstep.protocol.errors import Environment
from lockstep.protocol.model import Engine
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.identity import write_config_file
from tests.fuzz.environments import ANSWERS, AWS, CANARY, KEYS, OCI, Broken
from tests.fuzz.garbage_server import garbage_server
from tests.fuzz.harness import characters, inputs
from tests.support.cli_paths import paths

CREDENTIAL = "multi-cloud/app_user"
PLAN = plans.plan_document(
    [plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")],
    [plans.credential(CREDENTIAL, "orders", username="app_user")],
    oci=plans.OciNames(),
)
CLOUD = (
    *("doctor", "status", "serve", "secrets tag", "rotate", "pause", "resume", "take-over"),
    *("unblock", "import", "retire", "apply", "lock show", "lock release"),
    *("audit verify", "audit show", "audit report"),
)
"""Commands that call AWS first."""
EACH = 4
"""Every which of them is run in an environment."""
LOCK = {"status", "lock show", "audit show"}
"""Commands that read the lock table first."""
GIVEN = {
    "rotate": f"{CREDENTIAL} --force",
    "revoke": CREDENTIAL,
    "pause": CREDENTIAL,
    "resume": "*",
    "take-over": f"{CREDENTIAL} orders",
    "unblock": f"{CREDENTIAL} orders",
    "import": f"{CREDENTIAL} --from-secret before",
    "retire": CREDENTIAL,
    "apply": CREDENTIAL,
    "lock release": f"{CREDENTIAL} --holder run-1 --yes",
    "plan diff": "lockstep.yaml lockstep.yaml",
}
SET_HERE = ("AWS_", "OCI_", "LOCKSTEP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy")


def command_of(path: tuple[str, ...]) -> Any:  # noqa: ANN401 - of the parser
    """The command at the end of a path."""
    found: Any = get_command(app)
    for word in path:
        found = found.commands[word]
    return found


COMMANDS = {" ".join(path): command_of(path) for path in paths() if not hasattr(command_of(path), "commands")}
"""Every command that does something; the groups only have others."""


def words_of(name: str, *, as_json: bool = False) -> list[str]:
    """A command with what it requires, and where it prints a document with the option for that."""
    command = COMMANDS[name]
    required = [] if name in GIVEN else [p for p in command.params if p.required]
    options = [[p.opts[0], "x"] if p.param_type_name == "option" else ["x"] for p in required]
    words = [*name.split(), *GIVEN.get(name, "").split(), *(word for option in options for word in option)]
    return [*words, "--json"] if as_json and "--json" in command.takes else words


@contextmanager
def nothing_is_set(made: Path) -> Iterator[pytest.MonkeyPatch]:
    """The folder in which the commands run, with the plan; nothing is set, and no answer is kept of before."""
    plans.write_plan(made / "lockstep.yaml", PLAN)
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(SET_HERE):
                patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("HOME", str(made))
        patch.chdir(made)
        # It tries three times, a second apart.
        patch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
        clients.botocore_session.cache_clear()
        yield patch
        clients.botocore_session.cache_clear()


@pytest.fixture
def unset(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with nothing_is_set(tmp_path) as patch:
        yield patch


def set_all(patch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        patch.setenv(name, value)


def run(words: Sequence[str]) -> Result:
    """Run a command; whatever happens, it says what in lines and an exit code, and shows no secret."""
    shown = CliRunner().invoke(app, list(words), input="")
    told = f"{words}: {shown.exit_code}\n{shown.output}"
    assert isinstance(shown.exception, SystemExit | None), told
    assert shown.exit_code in {0, 1, 2, 3}, told
    assert not [word for word in ("Traceback", "UnexpectedError", CANARY) if word in shown.output], told
    if "--json" in words and shown.exit_code:
        assert isinstance(json.loads(shown.stdout), dict), told
    return shown


def run_all(names: Iterable[str], expected: str, *, as_json: bool = False) -> None:
    """Run commands: they name the error in one line."""
    for name in names:
        shown = run(words_of(name, as_json=as_json))
        told = f"{name}: {shown.exit_code}\n{shown.output}"
        assert shown.exit_code == 3, told
        assert expected in shown.output, told
        assert "`" in shown.output or "set " in shown.output, told
        assert len([line for line in shown.stderr.splitlines() if not line.endswith(": not done")]) <= 1, told


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsSandbox]:
    """An account with nothing but a lock table."""
    with AwsSandbox() as sandbox:
        create_lock_table(sandbox.client("dynamodb"), plans.LOCK_TABLE)
        yield sandbox


@pytest.mark.parametrize(("number", "broken"), list(enumerate(AWS.values())), ids=AWS)
def test_commands_where_aws_cannot_be_called(
    number: int, broken: Broken, unset: pytest.MonkeyPatch, tmp_path: Path, aws: AwsSandbox
) -> None:
    """In each environment some of them, and each of them in several."""
    set_all(unset, broken.made(tmp_path, aws.url.removeprefix("http://")))
    run_all(CLOUD[number % EACH :: EACH], broken.told, as_json=number // EACH % 2 == 1)


@pytest.mark.parametrize(("status", "code", "text", "told"), ANSWERS.values(), ids=ANSWERS)
def test_commands_aws_refuses(
    status: int, code: str, text: str, told: str, unset: pytest.MonkeyPatch
) -> None:
    # Both dialects: DynamoDB, Secrets Manager and Step Functions answer in JSON, S3 and STS in XML.
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": text}).encode()
    head = f"HTTP/1.1 {status} Bad\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}"
    with garbage_server() as server:
        server.reply = f"{head}\r\nConnection: close\r\n\r\n".encode() + body
        set_all(unset, {**KEYS, "AWS_ENDPOINT_URL": server.endpoint})
        # Verification needs no lock table.
        among = LOCK if told == Environment.LOCK_TABLE_MISSING.error_name else {*LOCK, "audit verify"}
        run_all(among, told)


def test_a_fingerprint_unknown_to_oci(unset: pytest.MonkeyPatch, tmp_path: Path, aws: AwsSandbox) -> None:
    with OciSandbox() as oci:
        config = {**oci.config(), "fingerprint": ":".join(["0a"] * 16)}
        file = write_config_file(tmp_path, "wrong", config)
        endpoint = {"OCI_CONFIG_FILE": str(file), "LOCKSTEP_OCI_ENDPOINT": oci.endpoint}
        set_all(unset, {**aws.environment(), **endpoint})
        assert "store oci: OciIdentityRefusedError: " in run(["status"]).stdout


@pytest.mark.parametrize("broken", OCI.values(), ids=OCI)
def test_every_command_where_oci_cannot_be_called(
    broken: Broken, unset: pytest.MonkeyPatch, tmp_path: Path, aws: AwsSandbox
) -> None:
    """Those that go on with OCI where AWS answers that nothing is there yet."""
    set_all(unset, {**aws.environment(), **broken.made(tmp_path)})
    for name in ("doctor", "status", "audit verify", "audit report"):
        shown = run(words_of(name, as_json=True))
        assert shown.exit_code in {1, 3}
        assert name != "status" or broken.told in shown.output


WORDS = st.sampled_from(
    [
        *(word for path in paths() for word in path),
        *("--json", "-h", "--plan", "-p", "--stack", "--dry-run", "-n", "--", "-", ""),
        *(CREDENTIAL, "orders", "aws", "oci", "lockstep.yaml", "/", "/dev/null", "\0", "--=", "-1"),
    ]
) | st.text(characters, max_size=8)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with nothing_is_set(tmp_path_factory.mktemp("arguments")):
        yield


@pytest.mark.usefixtures("empty")
@inputs(200)
@given(name=st.sampled_from(list(COMMANDS)), more=st.lists(WORDS, max_size=5), prefix=st.booleans())
def test_any_arguments(name: str, more: list[str], *, prefix: bool) -> None:
    run([*(words_of(name) if prefix else name.split()), *more])
