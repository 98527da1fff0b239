"""The examples in docs/how-to/agent: without privileges, and in the form that their readers accept."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lockstep.agent import DEFAULT_SETTINGS
from lockstep.agent.values import Values
from tests.agent.harness import TOKEN, Address, FakeStore, World, answering, blob, secret_of
from tests.agent.process import command
from tests.support.programs import ran

NAME_IN_EXAMPLES = "multi-cloud/ledger_user"
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "agent"


def _documents(name: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all((FOLDER / name).read_text()))


@pytest.fixture(scope="module")
def agent() -> Iterator[Address]:
    user, of_blob = FakeStore(), FakeStore(text=blob(1))
    values = Values([secret_of(NAME_IN_EXAMPLES, oci=user), secret_of("b", oci=of_blob)], lambda: 0.0)
    values.refresh()
    with answering(values) as address:
        yield address


def test_external_secrets_gets_a_flat_map_of_strings(agent: Address) -> None:
    """By templates in the URL and the headers; a value that is no string would fail the whole secret.

    https://external-secrets.io/latest/provider/webhook/
    """

    def fetched(webhook: dict[str, Any], key: str = "") -> dict[str, str]:
        path = re.fullmatch(
            r"http://127\.0\.0\.1:2773(/.*)", webhook["url"].replace("{{ .remoteRef.key }}", key)
        )
        assert path
        [(header, template)] = webhook["headers"].items()
        assert (template, [s["name"] for s in webhook["secrets"]]) == ("{{ .auth.token }}", ["auth"])
        answer = agent.get(path[1], token=None, headers={header: TOKEN})
        assert (answer.status, webhook["result"]) == (200, {"jsonPath": "$"}), answer.body
        found = json.loads(answer.body)
        assert all(isinstance(value, str) for value in found.values())
        return dict(found)

    secret, store, external, generator, generated = _documents("external-secrets.yaml")
    assert secret["stringData"].keys() == {"token"}
    key = external["spec"]["dataFrom"][0]["extract"]["key"]
    found = fetched(store["spec"]["provider"]["webhook"], key)
    assert (found["username"], found["host"], found["port"]) == ("app", "pg.example.com", "5432")
    assert fetched(generator["spec"])["host"] == "db.example.com"
    reference = generated["spec"]["dataFrom"][0]["sourceRef"]["generatorRef"]
    assert (reference["kind"], reference["name"]) == (generator["kind"], generator["metadata"]["name"])


def test_containers_have_no_privileges() -> None:
    [pod], [compose] = _documents("kubernetes.yaml"), _documents("compose.yaml")
    spec = pod["spec"]
    [sidecar] = spec["initContainers"]
    assert (spec["securityContext"]["runAsNonRoot"], sidecar["restartPolicy"]) == (True, "Always")
    assert sidecar["securityContext"] == {
        "runAsUser": 65532,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}} in spec["volumes"]
    agent, application = compose["services"]["agent"], compose["services"]["application"]
    assert (agent["read_only"], agent["cap_drop"], agent["user"]) == (True, ["ALL"], "65532:65532")
    assert application["network_mode"] == "service:agent"
    assert compose["volumes"]["run"]["driver_opts"]["type"] == "tmpfs"
    image = (FOLDER / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", image, re.MULTILINE) == ["65532:65532"]
    locks = re.findall(r"locks/\w+\.txt", image)
    assert all((FOLDER.parents[2] / lock).is_file() for lock in locks)
    assert image.count("--require-hashes") == len(locks) == 2


def test_systemd_confines_the_agent_and_takes_the_unit(tmp_path: Path) -> None:
    text = (FOLDER / "agent.service").read_text()
    lines = text.splitlines()
    for line in (
        *("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "LimitCORE=0"),
        "CapabilityBoundingSet=",
    ):
        assert line in lines
    # A dynamic user has the unit's name, and systemd refuses one where only a group of that name exists (status 217).
    [group] = re.findall(r"^Group=(.*)$", text, re.MULTILINE)
    [unit] = re.findall(r"/etc/systemd/system/(.*)\.service", text)
    assert group != unit
    assert f"`g {group} -`" in text
    (tmp_path / f"{unit}.service").write_text(text.replace("/opt/lockstep/bin/python", sys.executable))
    if verify := shutil.which("systemd-analyze"):
        assert ran([verify, "verify", tmp_path / f"{unit}.service"]).returncode == 0


def test_the_examples_start_the_agent_and_ask_it_whether_it_is_healthy(agent: Address) -> None:
    [exec_start] = re.findall(r"^ExecStart=(.*)$", (FOLDER / "agent.service").read_text(), re.MULTILINE)
    image = (FOLDER / "Dockerfile").read_text()
    entry, arguments = (
        json.loads(re.findall(rf"^{k} (.*)$", image, re.MULTILINE)[0]) for k in ("ENTRYPOINT", "CMD")
    )
    for started in (exec_start.split(), [*entry, *arguments]):
        assert started == command(DEFAULT_SETTINGS, python=started[0])
    [compose], [pod] = _documents("compose.yaml"), _documents("kubernetes.yaml")
    probes = (
        compose["services"]["agent"]["healthcheck"]["test"][1:],
        pod["spec"]["initContainers"][0]["startupProbe"]["exec"]["command"],
    )
    with answering(World().values) as unread:
        for python, option, program in probes:
            assert (python, option) == ("/agent/bin/python", "-c")
            for port, status in ((agent.port, 0), (unread.port, 1)):
                # Container engines put the proxy of their machine into every container.
                asks = [sys.executable, "-c", program.replace("2773", str(port))]
                assert ran(asks, env={"http_proxy": "http://127.0.0.1:9"}).returncode == status
