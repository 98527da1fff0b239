"""The example that makes External Secrets read at once, run as it stands, against an API as strict as Kubernetes."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moto.events.models import EventPattern
from ruamel.yaml import YAML

from lockstep.protocol.events import Paused
from lockstep.protocol.messages import Promoted
from tests.support.event_examples import examples
from tests.support.kubernetes_api import KubernetesApi

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "external-secrets"
EVENT: dict[str, Any] = examples()[Promoted]
TOKEN, ACCOUNT_TOKEN = "t" * 64, "of-the-account"


@dataclass
class Receiver:
    port: int
    api: KubernetesApi

    def post(self, body: object, *, token: str = TOKEN) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", "/", body=data, headers={"Authorization": f"Bearer {token}"})
        status = connection.getresponse().status
        connection.close()
        return status

    @property
    def forced(self) -> str | None:
        found: str | None = self.api.objects["shop/app-user"].get("annotations", {}).get("force-sync")
        return found


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    api = KubernetesApi(
        token=ACCOUNT_TOKEN, may_patch={"shop/app-user", "shop/gone"}, objects={"shop/app-user": {}}
    )
    (tmp_path / "token").write_text(ACCOUNT_TOKEN)
    (tmp_path / "own").write_text(TOKEN + "\n")
    wanted = {
        "multi-cloud/app_user": ["shop/app-user"],
        "of/nobody": ["shop/gone"],
        "denied": ["other/app-user"],
    }
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and the example
        [sys.executable, str(FOLDER / "force_sync.py")],
        env={
            "PATH": os.defpath,
            "ADDRESS": "127.0.0.1",
            "PORT": "0",
            "ACCOUNT_FOLDER": str(tmp_path),
            "TOKEN_FILE": str(tmp_path / "own"),
            "KUBERNETES_URL": api.start(),
            "EXTERNAL_SECRETS": json.dumps(wanted),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    port = int(process.stdout.readline().rpartition(" ")[2])
    try:
        yield Receiver(port, api)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
        api.stop()


@pytest.mark.parametrize("body", [{"source": "lockstep", "detail": EVENT}, EVENT], ids=["EventBridge", "OCI"])
def test_a_promotion_is_a_sync(receiver: Receiver, body: dict[str, Any]) -> None:
    assert receiver.post(body) == 204
    assert receiver.forced == EVENT["id"]


def test_a_repeat_changes_nothing(receiver: Receiver) -> None:
    before = [receiver.post(EVENT), receiver.forced]
    assert [receiver.post(EVENT), receiver.forced] == before
    assert receiver.post({**EVENT, "id": "another"}) == 204
    assert receiver.forced == "another"


@pytest.mark.parametrize(
    "event", [examples()[Paused], {**EVENT, "subject": "of/another-plan"}], ids=["kind", "credential"]
)
def test_another_event_is_taken_and_does_nothing(receiver: Receiver, event: dict[str, Any]) -> None:
    assert receiver.post(event) == 204
    assert receiver.api.patches == []


@pytest.mark.parametrize("token", ["", "t" * 63, "t" * 64 + "x", "\xe9"])
def test_who_does_not_know_the_token_is_refused(receiver: Receiver, token: str) -> None:
    assert receiver.post(EVENT, token=token) == 401
    assert receiver.api.patches == []


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"{}", b'{"detail": 1}', b'{"type": 1}'])
def test_what_is_no_event_is_refused(receiver: Receiver, body: bytes) -> None:
    assert receiver.post(body) == 400


@pytest.mark.parametrize("subject", ["of/nobody", "denied"], ids=["not there", "not allowed"])
def test_where_kubernetes_refuses_eventbridge_is_to_try_again(receiver: Receiver, subject: str) -> None:
    assert receiver.post({**EVENT, "subject": subject}) == 502


def test_the_manifests_fit_the_program() -> None:
    documents = list(YAML(typ="safe", pure=True).load_all((FOLDER / "force-sync.yaml").read_text()))
    by_kind = {d["kind"]: d for d in documents}
    [rule] = by_kind["Role"]["rules"]
    assert (rule["apiGroups"], rule["resources"], rule["verbs"]) == (
        ["external-secrets.io"],
        ["externalsecrets"],
        ["patch"],
    )
    [container] = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    given = {e["name"]: e["value"] for e in container["env"]}
    [places] = json.loads(given["EXTERNAL_SECRETS"]).values()
    assert places == [f"{by_kind['Role']['metadata']['namespace']}/{name}" for name in rule["resourceNames"]]
    assert all(name in (FOLDER / "force_sync.py").read_text() for name in given)


def test_the_rule_passes_promotions_on_and_nothing_else() -> None:
    template = YAML(typ="rt").load((FOLDER / "rule.yaml").read_text())
    pattern = EventPattern.load(json.dumps(template["Resources"]["Rule"]["Properties"]["EventPattern"]))

    def passes(kind: type[Any]) -> bool:
        envelope: Any = {
            "source": "lockstep",
            "detail-type": examples()[kind]["type"],
            "detail": examples()[kind],
        }
        return bool(pattern.matches_event(envelope))

    assert [kind for kind in examples() if passes(kind)] == [Promoted]
