"""Who a process is in its cloud, wherever it runs, and when that comes late, is replaced, or is refused."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from oci.signer import load_private_key  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.aws.clients import botocore_session
from lockstep.client.sources import aws_texts, vault_texts
from lockstep.plan.published import WholePlan
from lockstep.protocol.errors import EnvironmentalError, RetryableError, StoreAccessDeniedError
from lockstep.protocol.names import VersionNames, slot_name
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import DEPLOYER, own_oci_identity
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.emulators.oci.identity import REGION, TENANCY
from sandbox.emulators.oci.principals import INSTANCE, SERVICE_ACCOUNT
from sandbox.oci_resources import create_secret
from tests.contract.clouds import sandbox_vault
from tests.support.memory import make_plan
from tests.support.peer import peer

NAME = "multi-cloud/app_user"
FUNCTION, POD = "ocid1.fnfunc.oc1..sandbox", f"{SERVICE_ACCOUNT}apps:reader"
KINDS = {"person": "user", INSTANCE: "instance", POD: "workload", FUNCTION: "identityfederateddomainapp"}
OF_VM = "instance_principal"
HOME = {"aws": ".aws/credentials", "oci": ".oci/config"}


@dataclass
class Machine:
    """A process's surroundings: two clouds, and a home."""

    aws: AwsSandbox
    oci: OciSandbox
    home: Path

    def __post_init__(self) -> None:
        self.keys = [self.oci.identity.new_api_key("person") for _ in range(3)]
        self.pem = self.keys[0]["key_content"]

    def file(self, name: str, text: str) -> str:
        (self.home / name).write_text(text)
        return str(self.home / name)

    def token(self, kind: str, name: str = "", **more: int) -> str:
        about = {"sub": name or self.keys[0]["user"], "ptype": kind, "res_tenant": TENANCY, **more}
        public_key = load_private_key(self.pem, None).public_key()
        return self.file(f"{kind}.token", self.oci.domain.issued(about, public_key))

    # Environments of OCI: each is some of these, with its variables.

    def key(self) -> dict[str, str]:
        return {"OCI_CONFIG_FILE": str(write_config_file(self.home, "key", self.keys[0]))}

    def default(self) -> dict[str, str]:
        Path(self.key()["OCI_CONFIG_FILE"]).replace(self.home / ".oci/config")
        return {}

    def profile(self, name: str = "DEFAULT", **fields: str) -> dict[str, str]:
        lines = (f"{k}={v}" for k, v in {**fields, "region": REGION, "log_requests": "true"}.items())
        return {"OCI_CONFIG_FILE": self.file("config", "\n".join([f"[{name}]", *lines]))}

    def session(self) -> dict[str, str]:
        """As `oci session authenticate` leaves it: without a user."""
        key = self.file("session.pem", self.pem)
        return self.profile(key_file=key, security_token_file=self.token("user"))

    def vm(self) -> dict[str, str]:
        return {"OCI_METADATA_BASE_URL": f"{self.oci.endpoint}/opc/v2"}

    def shell(self) -> dict[str, str]:
        fields = {"authentication_type": OF_VM, "delegation_token_file": self.token("user")}
        return {**self.vm(), **self.profile(REGION, **fields), "OCI_CONFIG_PROFILE": REGION}

    def function(self) -> dict[str, str]:
        return {
            "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
            "OCI_RESOURCE_PRINCIPAL_RPST": self.token("resource", FUNCTION),
            "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": self.file("function.pem", self.pem),
        }

    def pod(self) -> dict[str, str]:
        host = f"127.1.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
        return {
            "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
            "KUBERNETES_SERVICE_HOST": host,
            "OCI_KUBERNETES_SERVICE_ACCOUNT_CERT_PATH": str(self.oci.serve_pods(host)),
            "OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH": self.token("account", POD),
        }

    def act(self, cloud: str, act: str, number: str) -> None:
        """What may happen to an identity in either cloud."""
        file = self.home / HOME[cloud]
        match act, cloud:
            case "garbage", _:
                file.write_text("hunter2\n[x")
            case "write", "aws":
                file.write_text(f"[default]\naws_access_key_id=AKIA{number}\naws_secret_access_key=s\n")
            case "write", _:
                write_config_file(self.home, number, self.keys[int(number)]).replace(file)
            case "delete", "aws":
                self.aws.guard.deleted_keys.add(f"AKIA{number}")
            case "delete", _:
                self.oci.identity.delete_api_key(self.keys[int(number)])
            case "metadata", _:
                self.oci.faults.clear()

    # Who asks.

    def reader(self, cloud: str) -> Callable[[], object]:
        names = VersionNames(credential_id=NAME, secret=NAME)
        where = {"compartment_id": self.oci.compartment_id, "vault_id": self.oci.vault_id}
        oci = vault_texts(region=REGION, store="oci", **where)
        aws = aws_texts(region=self.aws.region, store="aws")
        return lambda: (aws if cloud == "aws" else oci)(names)

    def command(self, cloud: str) -> Callable[[], object]:
        clouds = Clouds(WholePlan(make_plan().compiled), DEPLOYER)
        vault = sandbox_vault(self.oci, clouds.oci(REGION))
        return lambda: clouds.secret_in("aws", NAME) if cloud == "aws" else vault.lookup(NAME)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """One in which nothing is set, and no metadata answers."""
    for name in os.environ:
        if name.startswith(("AWS_", "OCI_", "KUBERNETES_", "LOCKSTEP_")):
            monkeypatch.delenv(name)
    with AwsSandbox() as aws, OciSandbox() as oci:
        made = Machine(aws, oci, tmp_path)
        for name, value in {
            "HOME": str(tmp_path),
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
            "LOCKSTEP_OCI_ENDPOINT": oci.endpoint,
            "OCI_METADATA_BASE_URL": "http://127.0.0.1:1",
        }.items():
            monkeypatch.setenv(name, value)
        for file in HOME.values():
            (tmp_path / file).parent.mkdir()
        for name, kind in KINDS.items():
            oci.identity.principal(name, kind).is_administrator = True  # type: ignore[arg-type]  # a kind
        botocore_session.cache_clear()
        yield made
        botocore_session.cache_clear()


ENVIRONMENTS: Mapping[str, tuple[str, str]] = {
    "an API key in a config": ("key", "person"),
    "a session of a person": ("session", "person"),
    "Cloud Shell": ("shell", "person"),
    "a VM": ("vm", INSTANCE),
    "a VM, by its config": (f"vm {OF_VM}", INSTANCE),
    "a pod of OKE": ("pod", POD),
    "a function": ("function", FUNCTION),
    "a config that is named, in a function": ("function session", "person"),
    "a default config on a VM": ("vm default", "person"),
}


def _make(machine: Machine, environment: str, patch: pytest.MonkeyPatch) -> None:
    for part in environment.split():
        named = (
            getattr(machine, part)() if hasattr(machine, part) else machine.profile(authentication_type=part)
        )
        for name, value in named.items():
            patch.setenv(name, value)


@pytest.mark.parametrize(("environment", "principal"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_each_environment_signs_what_oci_takes_and_again_after_its_session_has_ended(
    machine: Machine, environment: str, principal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = machine.command("oci")
    for _ in range(2):
        # A machine's session is had anew by itself; a file's, when somebody has written it again.
        _make(machine, environment, monkeypatch)
        read()
        assert machine.oci.calls.records[-1][3:] == (principal, 200)
        assert not own_oci_identity().config.get("log_requests")
        machine.oci.domain.end_sessions()


REFUSED: Mapping[str, tuple[str, Callable[[Machine], object], str]] = {
    "an expired session": ("session", lambda m: m.token("user", exp=1), "NotAuthenticated"),
    "a session as an account's": ("pod", lambda m: m.token("account"), "Unauthorized"),
    "no file": ("key", lambda m: (m.home / "key.config").unlink(), "ConfigFileNotFound"),
    "no token": ("function", lambda m: (m.home / "resource.token").unlink(), "FileNotFoundError"),
    "an unknown type": ("unknown", lambda _: None, "InvalidConfig"),
    "nothing": ("", lambda _: None, "no-identity"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_of_no_use_is_refused_and_the_advice_is_no_key(
    machine: Machine, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, spoil, code = REFUSED[case]
    _make(machine, environment, monkeypatch)
    spoil(machine)
    with pytest.raises(StoreAccessDeniedError, match=code) as error:
        machine.command("oci")()
    assert "oci s" not in str(error.value.__cause__).replace("oci session", "")


@pytest.mark.usefixtures("machine")
def test_a_proxy_that_answers_whatever_is_asked_is_no_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(lambda client: client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(StoreAccessDeniedError, match="no-identity"):
            own_oci_identity()


STORIES: Mapping[str, str] = {
    "it is late": "late-, -, write 1",
    "its file is malformed for a while": "write 1, garbage-, write 1",
    "it is replaced before it dies": "write 1, write 2, delete 1",
    "it dies before it is replaced": "write 1, delete 1-, write 2",
}
"""What happens before each read; with a hyphen the read fails."""


@pytest.mark.parametrize("who", ["reader", "command"])
@pytest.mark.parametrize(("cloud", "story"), [*product(HOME, STORIES.values()), ("oci", "-, metadata")])
def test_the_first_read_after_an_identity_is_right_succeeds(
    machine: Machine, cloud: str, who: str, story: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.aws.client("secretsmanager").create_secret(Name=NAME, SecretString="{}")
    create_secret(machine.oci, slot_name(NAME, 0), b"{}")
    _make(machine, "vm", monkeypatch)
    machine.oci.faults.outage("auth")
    read: Callable[[], object] | None = None
    for step in story.split(", "):
        act, _, number = step.rstrip("-").partition(" ")
        machine.act(cloud, act, number)
        # The process starts in what there is first.
        read = read or getattr(machine, who)(cloud)
        if not step.endswith("-"):
            read()
            continue
        with pytest.raises((StoreAccessDeniedError, RetryableError, EnvironmentalError)) as error:
            read()
        assert "hunter2" not in str(error.value)


def test_one_that_another_thread_drops_still_signs(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.act("aws", "write", "1")
    held: Any = botocore_session(None, ()).get_credentials()
    monkeypatch.setattr("lockstep.aws.clients.stamps_of", lambda *_files: held.drop() or ())
    for _ in range(2):
        assert held.get_frozen_credentials().access_key == "AKIA1"
