"""The example that makes External Secrets read at once, run as it stands, against an API as strict as Kubernetes."""

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from moto.events.models import EventPattern
from ruamel.yaml import YAML

from lockstep.protocol.events import Paused
from lockstep.protocol.messages import Promoted
from sandbox.emulators.oci.wire import HttpServer, Reply, Request
from tests.support.event_examples import examples

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "external-secrets"
EVENT: dict[str, Any] = examples()[Promoted]
TOKEN, ACCOUNT_TOKEN = "t" * 64, "of-the-account"
KUBERNETES_PATH = re.compile(
    r"/apis/external-secrets\.io/v1/namespaces/([a-z0-9-]+)/externalsecrets/([a-z0-9.-]+)"
)
KUBERNETES_TYPES = {
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
}


@dataclass
class KubernetesApi:
    """A cluster with ExternalSecrets, as strict as the real one. What differs is refused with the API server's status.

    A PATCH of a custom resource takes three content types, and no strategic merge patch
    (https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update).

    Attributes:
        token: Of the only account.
        may_patch: What it may patch, as `namespace/name`.
        objects: What is there.
        patches: Every patch that was taken, by the object.
    """

    token: str
    may_patch: set[str]
    objects: dict[str, dict[str, Any]]
    patches: list[str] = field(default_factory=list)

    def start(self) -> str:
        """Listen on loopback; the address."""
        self._server = HttpServer(lambda request: Reply(self._patched(request)))
        self._server.start()
        return f"http://127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        """Listen no more."""
        self._server.stop()

    def _patched(self, request: Request) -> int:
        """The status of one PATCH."""
        found = KUBERNETES_PATH.fullmatch(request.target)
        place = "/".join(found.groups()) if found and request.method == "PATCH" else ""
        if refused := self._refusal(place, request.headers):
            return refused
        try:
            annotations = json.loads(request.body)["metadata"]["annotations"]
        except (ValueError, LookupError, TypeError):
            return 400
        if not all(isinstance(value, str) for value in annotations.values()):
            return 400
        self.objects[place].setdefault("annotations", {}).update(annotations)
        self.patches.append(place)
        return 200

    def _refusal(self, place: str, headers: Mapping[str, str]) -> int | None:
        """In the order in which the API server checks: who is it, may they, is it there, what is it."""
        if headers.get("authorization") != f"Bearer {self.token}":
            return 401
        if place and place not in self.may_patch:
            return 403
        if place not in self.objects:
            return 404
        return None if headers.get("content-type") in KUBERNETES_TYPES else 415


class Receiver(NamedTuple):
    port: int
    api: KubernetesApi

    def post(self, body: object, *, token: str = TOKEN) -> int:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request("POST", "/", body=data, headers=headers)
            return connection.getresponse().status


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("account")
    api = KubernetesApi(
        token=ACCOUNT_TOKEN, may_patch={"shop/app-user", "shop/gone"}, objects={"shop/app-user": {}}
    )
    (folder / "token").write_text(ACCOUNT_TOKEN)
    (folder / "own").write_text(TOKEN + "\n")
    wanted = {EVENT["subject"]: ["shop/app-user"], "of/nobody": ["shop/gone"], "denied": ["other/app-user"]}
    environment = {
        "PATH": os.defpath,
        "ADDRESS": "127.0.0.1",
        "PORT": "0",
        "KUBERNETES_URL": api.start(),
        "ACCOUNT_FOLDER": str(folder),
        "TOKEN_FILE": str(folder / "own"),
        "EXTERNAL_SECRETS": json.dumps(wanted),
    }
    program = [sys.executable, str(FOLDER / "force_sync.py")]
    process = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True)  # noqa: S603 - the example
    assert process.stdout
    port = int(process.stdout.readline().rpartition(" ")[2])
    try:
        yield Receiver(port, api)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
        api.stop()


OF_EVENTBRIDGE = {"source": "lockstep", "detail": {**EVENT, "id": "another"}}
ANSWERS: dict[str, tuple[object, int, str | None]] = {
    "a promotion, as OCI sends it": (EVENT, 204, EVENT["id"]),
    "as EventBridge does": (OF_EVENTBRIDGE, 204, "another"),
    "another kind of event": (examples()[Paused], 204, None),
    "of another plan's credential": ({**EVENT, "subject": "of/another-plan"}, 204, None),
    "of one that Kubernetes has not: to try again": ({**EVENT, "subject": "of/nobody"}, 502, None),
    "of one that it may not patch": ({**EVENT, "subject": "denied"}, 502, None),
    **{f"no event: {bad!r}": (bad, 400, None) for bad in (b"", b"no", b"[]", b"{}", b'{"detail": 1}')},
}


def test_a_promotion_is_a_sync_and_nothing_else_is(receiver: Receiver) -> None:
    target = receiver.api.objects["shop/app-user"]
    for name, (body, status, forced) in ANSWERS.items():
        before = target.get("annotations", {}).get("force-sync")
        for _ in range(2):  # A repeat changes nothing.
            assert receiver.post(body) == status, name
            assert target.get("annotations", {}).get("force-sync") == (forced or before), name


def test_who_does_not_know_the_token_is_refused(receiver: Receiver) -> None:
    patches = len(receiver.api.patches)
    for token in ("", "t" * 63, "t" * 64 + "x", "\xe9"):
        assert receiver.post({**EVENT, "id": "forged"}, token=token) == 401
    assert len(receiver.api.patches) == patches


def test_the_rule_passes_promotions_on_and_nothing_else() -> None:
    template = YAML(typ="rt").load((FOLDER / "rule.yaml").read_text())
    pattern = EventPattern.load(json.dumps(template["Resources"]["Rule"]["Properties"]["EventPattern"]))

    for kind, event in examples().items():
        envelope: Any = {"source": "lockstep", "detail-type": event["type"], "detail": event}
        assert pattern.matches_event(envelope) is (kind is Promoted)
