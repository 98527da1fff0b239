"""The part of the Kubernetes API that annotates a custom resource, as strict as the real one.

A PATCH of a custom resource takes three content types, and no strategic merge patch
(https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update). What differs is refused with the status
that the API server answers.
"""

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATH = re.compile(r"/apis/external-secrets\.io/v1/namespaces/([a-z0-9-]+)/externalsecrets/([a-z0-9.-]+)")
_TYPES = {"application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"}


@dataclass
class KubernetesApi:
    """A cluster with ExternalSecrets.

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
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_PATCH(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status = api.patch(self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def patch(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """The status of one PATCH."""
        place = "/".join(found.groups()) if (found := _PATH.fullmatch(path)) else ""
        if refused := self._refusal(place, headers):
            return refused
        try:
            annotations = json.loads(body)["metadata"]["annotations"]
        except (ValueError, LookupError, TypeError):
            return 400
        if not all(isinstance(value, str) for value in annotations.values()):
            return 400
        self.objects[place].setdefault("annotations", {}).update(annotations)
        self.patches.append(place)
        return 200

    def _refusal(self, place: str, headers: dict[str, str]) -> int | None:
        """In the order in which the API server checks: who is it, may they, is it there, what is it."""
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401
        if place and place not in self.may_patch:
            return 403
        if place not in self.objects:
            return 404
        return None if headers.get("Content-Type") in _TYPES else 415
