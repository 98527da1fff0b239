"""The part of the Kubernetes API that annotates a custom resource, as strict as the real one.

A PATCH of a custom resource takes three content types, and no strategic merge patch
(https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update). What differs is refused with the status
that the API server answers.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.emulators.oci.wire import HttpServer, Reply, Request

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
        self._server = HttpServer(lambda request: Reply(self._patched(request)))
        self._server.start()
        return f"http://127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        """Listen no more."""
        self._server.stop()

    def _patched(self, request: Request) -> int:
        """The status of one PATCH."""
        found = _PATH.fullmatch(request.target)
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
        return None if headers.get("content-type") in _TYPES else 415
