"""Every command in environments that are wrong, and with arguments that are: one line, an exit code, no traceback."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.utils import ContainerMetadataFetcher
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner, Result

from lockstep.aws import clients
from lockstep.cli import app
from lockstep.protocol.model import Engine
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.identity import new_private_key
from sandbox.emulators.oci.wire import HttpServer, Reply
from tests.fuzz.harness import characters, inputs
from tests.support.cli_paths import paths

# Environments that are wrong, and the error that every command which calls a cloud must name

NOTHING_LISTENS = "http://127.0.0.1:1"
KEYS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret"}
CANARY = "hunter2-canary"
"""Stands where a password may stand: it must never be shown."""
CONFIG, PROFILE, PLAN_MISSING = "AwsConfigInvalidError", "AwsProfileMissingError", "PlanMissingError"
NO_KEYS, NO_ANSWER = "AwsCredentialsMissingError", "AwsCredentialsUnavailableError"
REFUSED, EXPIRED = "AwsCredentialsRefusedError", "AwsSessionExpiredError"
PROXY, CA, UNREACHABLE = "ProxyUnusableError", "CaFileMissingError", "EndpointUnreachableError"
ROLE = "role_arn=arn:aws:iam::123456789012:role/r"
SSO = "sso_session=s\nsso_account_id=123456789012\nsso_role_name=r\n"
SESSION = "[sso-session s]\nsso_region=eu-central-1\nsso_start_url=https://example.awsapps.com/start"
WITH_PASSWORD = f"http://me:{CANARY}@127.0.0.1:1"
Wrong = tuple[str, Mapping[str, str], str | bytes]


def profile(told: str, text: str | bytes) -> Wrong:
    """By what a profile says."""
    return told, {"AWS_CONFIG_FILE": "{}/aws", "AWS_PROFILE": "p"}, text


def endpoint(told: str, url: str, **more: str) -> Wrong:
    """By the address, with keys."""
    return told, {**KEYS, "AWS_ENDPOINT_URL": url, **more}, ""


AWS: Mapping[str, Wrong] = {
    "garbage as config": profile(CONFIG, f"password = {CANARY}\n[profile p"),
    "bytes as config": profile(CONFIG, b"[profile p]\nregion=\xff\xfe"),
    "half a key": profile(NO_KEYS, "[profile p]\naws_access_key_id=a"),
    "a key's program that fails": profile(NO_ANSWER, "[profile p]\ncredential_process=false"),
    "a key's program that is not there": profile(CONFIG, "[profile p]\ncredential_process=/nowhere/program"),
    "a key's program that prints garbage": profile(CONFIG, f"[profile p]\ncredential_process=echo {CANARY}"),
    "a role with a source that is not there": profile(CONFIG, f"[profile p]\n{ROLE}\nsource_profile=q"),
    "not logged in": profile(EXPIRED, f"[profile p]\n{SSO}{SESSION}"),
    "nothing is set": (NO_KEYS, {}, ""),
    "a profile that is not there": (PROFILE, {"AWS_PROFILE": f"'; {CANARY}\n"}, ""),
    "a folder as config": (PROFILE, {"AWS_CONFIG_FILE": "{}", "AWS_PROFILE": "p"}, ""),
    "no token of a web identity": (
        CONFIG,
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "{}/nowhere", "AWS_ROLE_ARN": ROLE.removeprefix("role_arn=")},
        "",
    ),
    "a container's keys that do not answer": (
        NO_ANSWER,
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{NOTHING_LISTENS}/keys"},
        "",
    ),
    "garbage as credentials": (CONFIG, {"AWS_SHARED_CREDENTIALS_FILE": "{}/garbage"}, ""),
    "a folder as plan": (PLAN_MISSING, {"LOCKSTEP_PLAN": "{}"}, ""),
    "a key with a line break": endpoint(
        REFUSED, NOTHING_LISTENS, AWS_ACCESS_KEY_ID="a\nb", AWS_SECRET_ACCESS_KEY=CANARY
    ),
    "an endpoint with a password": endpoint(UNREACHABLE, WITH_PASSWORD),
    "an endpoint that is no URL": endpoint("EndpointInvalidError", "not a url"),
    "an endpoint without TLS": endpoint(UNREACHABLE, "https://{server}"),
    "a proxy with a password": endpoint(PROXY, "https://aws.invalid", HTTPS_PROXY=WITH_PASSWORD),
    "a proxy of another kind": endpoint(PROXY, "https://aws.invalid", HTTPS_PROXY="gopher://127.0.0.1"),
    "garbage as proxy": endpoint(PROXY, "https://aws.invalid", HTTPS_PROXY="http://[::"),
    "no file with CAs": endpoint(CA, "https://{server}", AWS_CA_BUNDLE="{}/nowhere"),
    "garbage as CAs": endpoint(CA, "https://{server}", AWS_CA_BUNDLE="{}/garbage"),
}
"""The error, the variables, and a config. `{}` is the folder of the test, `{server}` a server that speaks no TLS."""

# What AWS answers: status, type and text of the error
EARLY = "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z"
NOT_AUTHORIZED = "User: arn:aws:iam::123456789012:user/u is not authorized to perform: dynamodb:GetItem on: r"
ANSWERS: Mapping[str, tuple[int, str, str, str]] = {
    "an expired token": (400, "ExpiredTokenException", CANARY, EXPIRED),
    "an unknown key": (400, "UnrecognizedClientException", CANARY, REFUSED),
    "a wrong signature": (400, "InvalidSignatureException", CANARY, REFUSED),
    "a wrong clock": (400, "InvalidSignatureException", EARLY, "ClockSkewError"),
    "a right that is missing": (400, "AccessDeniedException", NOT_AUTHORIZED, "AwsActionDeniedError"),
    "a right that is missing, untold": (403, "AccessDenied", CANARY, "AwsActionDeniedError"),
    "a table that is missing": (400, "ResourceNotFoundException", CANARY, "LockTableMissingError"),
}


# Configs of OCI with other fields than they should have; an empty one is left out

FIELDS = {
    "user": "ocid1.user.oc1..a",
    "tenancy": "ocid1.tenancy.oc1..a",
    "region": "eu-frankfurt-1",
    "fingerprint": ":".join(["0a"] * 16),
    "key_file": "{}/key",
}
OCI_CONFIG, OCI_KEY = "OciConfigInvalidError", "OciKeyUnreadableError"
LOCKED = {"key_file": "{}/locked"}
OCI: Mapping[str, tuple[str, str | bytes | Mapping[str, str]]] = {
    "a folder as config": (OCI_CONFIG, ""),
    "garbage as config": (OCI_CONFIG, f"{CANARY}\n"),
    "bytes as config": (OCI_CONFIG, b"[DEFAULT]\nuser=\xff\xfe"),
    "no key": (OCI_CONFIG, {"key_file": ""}),
    "a fingerprint that is none": (OCI_CONFIG, {"fingerprint": CANARY}),
    "a user that is none": (OCI_CONFIG, {"user": CANARY}),
    "a key file that is not there": (OCI_KEY, {"key_file": "/nowhere"}),
    "garbage as key": (OCI_KEY, {"key_file": "{}/garbage"}),
    "a key with a passphrase": (OCI_KEY, LOCKED),
    "a wrong passphrase": (OCI_KEY, {**LOCKED, "pass_phrase": "wrong"}),
    "a key that is unknown": ("OciIdentityRefusedError", {}),
    "an endpoint that refuses": (UNREACHABLE, {"endpoint": NOTHING_LISTENS}),
}

# The commands

CREDENTIAL = "multi-cloud/app_user"
PLAN = plans.plan_document(
    [plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")],
    [plans.credential(CREDENTIAL, "orders", username="app_user")],
    oci=plans.OciNames(),
)
CLOUD = (
    *("doctor", "status", "serve", "secrets tag", "rotate", "pause", "resume", "take-over"),
    *("import", "retire", "apply", "lock show", "lock release"),
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


@pytest.fixture
def unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The folder in which the commands run, with the plan; nothing is set, and no answer is kept of before."""
    plans.write_plan(tmp_path / "lockstep.yaml", PLAN)
    for name in os.environ:
        if name.startswith(SET_HERE):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # It tries three times, a second apart.
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    clients.botocore_session.cache_clear()
    yield monkeypatch
    clients.botocore_session.cache_clear()


def set_all(patch: pytest.MonkeyPatch, variables: Mapping[str, str], server: str = "") -> None:
    for name, value in variables.items():
        patch.setenv(name, value.replace("{}", str(Path.cwd())).replace("{server}", server))


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


@pytest.mark.parametrize(("number", "name"), list(enumerate(AWS)), ids=AWS)
def test_commands_where_aws_cannot_be_called(
    number: int, name: str, unset: pytest.MonkeyPatch, tmp_path: Path, aws: AwsSandbox
) -> None:
    """In each environment some of them, and each of them in several."""
    told, variables, config = AWS[name]
    (tmp_path / "aws").write_bytes(config if isinstance(config, bytes) else config.encode())
    (tmp_path / "garbage").write_text(f"{CANARY}\n[default")
    set_all(unset, variables, server=aws.url.removeprefix("http://"))
    run_all(CLOUD[number % EACH :: EACH], told, as_json=number // EACH % 2 == 1)


@pytest.mark.parametrize(("status", "code", "text", "told"), ANSWERS.values(), ids=ANSWERS)
def test_commands_aws_refuses(
    status: int, code: str, text: str, told: str, unset: pytest.MonkeyPatch
) -> None:
    # Both dialects: DynamoDB, Secrets Manager and Step Functions answer in JSON, S3 and STS in XML.
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": text}).encode()
    reply = Reply(status, {"content-type": "application/x-amz-json-1.0"}, body)
    server = HttpServer(lambda _: reply)
    server.start()
    try:
        set_all(unset, {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}"})
        # Verification needs no lock table.
        among = LOCK if told == "LockTableMissingError" else {*LOCK, "audit verify"}
        run_all(among, told)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def oci() -> Iterator[OciSandbox]:
    with OciSandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize(("told", "config"), OCI.values(), ids=OCI)
def test_every_command_where_oci_cannot_be_called(
    told: str,
    config: str | bytes | Mapping[str, str],
    unset: pytest.MonkeyPatch,
    tmp_path: Path,
    aws: AwsSandbox,
    oci: OciSandbox,
) -> None:
    """Those that go on with OCI where AWS answers that nothing is there yet."""
    endpoint = oci.endpoint
    if isinstance(config, Mapping):
        fields = {**FIELDS, **config}
        endpoint = fields.pop("endpoint", endpoint)
        lines = [f"{name}={value.replace('{}', str(tmp_path))}" for name, value in fields.items() if value]
        config = "\n".join(["[DEFAULT]", *lines])
    private, form = new_private_key(), serialization.PrivateFormat.TraditionalOpenSSL
    locked = serialization.BestAvailableEncryption(CANARY.encode())
    for file, content in {
        "oci": config if isinstance(config, bytes) else config.encode(),
        "key": private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()),
        "locked": private.private_bytes(serialization.Encoding.PEM, form, locked),
        "garbage": CANARY.encode(),
    }.items():
        (tmp_path / file).write_bytes(content)
    variables = {"OCI_CONFIG_FILE": "{}/oci" if config else "{}", "LOCKSTEP_OCI_ENDPOINT": endpoint}
    set_all(unset, {**aws.environment(), **variables})
    for name in ("doctor", "status", "audit verify", "audit report"):
        shown = run(words_of(name, as_json=True))
        assert shown.exit_code in {1, 3}
        assert name != "status" or told in shown.output


WORDS = st.sampled_from(
    [
        *(word for path in paths() for word in path),
        *("--json", "-h", "--plan", "-p", "--stack", "--dry-run", "-n", "--", "-", ""),
        *(CREDENTIAL, "orders", "aws", "oci", "lockstep.yaml", "/", "/dev/null", "\0", "--=", "-1"),
    ]
) | st.text(characters, max_size=8)


@pytest.mark.usefixtures("unset")
@inputs(200)
@given(name=st.sampled_from(list(COMMANDS)), more=st.lists(WORDS, max_size=5), prefix=st.booleans())
def test_any_arguments(name: str, more: list[str], *, prefix: bool) -> None:
    run([*(words_of(name) if prefix else name.split()), *more])
