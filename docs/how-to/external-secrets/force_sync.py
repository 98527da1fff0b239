"""Makes External Secrets read a credential at once, when an event of Lockstep says that it was promoted.

Runs in the cluster. It takes the POST of an API destination of EventBridge, whose body is an envelope with the
CloudEvent as the `detail`, and that of a subscription of OCI Notifications, whose body is the CloudEvent. It annotates
each ExternalSecret that `EXTERNAL_SECRETS` names for the credential with `force-sync`, which makes the operator read
its store again (https://external-secrets.io/latest/introduction/faq). The value is the id of the event, so a repeat
changes nothing.

EXTERNAL_SECRETS    {"<credential>": ["<namespace>/<name>", ...]}
TOKEN_FILE          what `Authorization: Bearer` must say
KUBERNETES_URL      by default the cluster's own
"""

import hmac
import json
import os
import ssl
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote

PROMOTED = "dev.lockstep.credential.promoted"
ACCOUNT = Path(os.environ.get("ACCOUNT_FOLDER", "/var/run/secrets/kubernetes.io/serviceaccount"))
URL = os.environ.get("KUBERNETES_URL", "https://kubernetes.default.svc")
SECONDS = 5
LONGEST_BODY = 64 * 1024


def force_sync(namespace: str, name: str, event_id: str) -> None:
    """Annotate one ExternalSecret."""
    path = f"/apis/external-secrets.io/v1/namespaces/{quote(namespace)}/externalsecrets/{quote(name)}"
    request = urllib.request.Request(
        URL + path,
        method="PATCH",
        data=json.dumps({"metadata": {"annotations": {"force-sync": event_id}}}).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}",
            "Content-Type": "application/merge-patch+json",  # a custom resource takes no strategic merge patch
        },
    )
    ca = ACCOUNT / "ca.crt"
    tls = ssl.create_default_context(cafile=str(ca)) if ca.exists() else None
    with urllib.request.urlopen(request, timeout=SECONDS, context=tls):
        pass


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 when it is done, 401 and 400 for what it does not take, and 502 where Kubernetes does not."""

    def do_POST(self) -> None:
        """Take one event."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, LONGEST_BODY))
        expected = "Bearer " + Path(os.environ["TOKEN_FILE"]).read_text().strip()
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected.encode()):
            self.answer(401)
            return
        try:
            given = json.loads(body)
            event = given.get("detail", given)
            kind, credential, event_id = event["type"], event["subject"], str(event["id"])
        except (ValueError, LookupError, AttributeError, TypeError):
            self.answer(400)
            return
        wanted = json.loads(os.environ["EXTERNAL_SECRETS"]).get(credential, []) if kind == PROMOTED else []
        failed = False
        for place in wanted:
            try:
                force_sync(*place.split("/"), event_id)
            except HTTPError as error:
                failed = True
                print(f"{place}: Kubernetes answered {error.code}", flush=True)
            except OSError as error:
                failed = True
                print(f"{place}: {type(error).__name__}", flush=True)
            else:
                print(f"{place}: synchronised for {event_id}", flush=True)
        self.answer(502 if failed else 204)

    def answer(self, status: int) -> None:
        """Send a status, and nothing else."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print no line for each request."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(
        (os.environ.get("ADDRESS", "0.0.0.0"), int(os.environ.get("PORT", "8080"))), Receiver
    )
    print(f"listening on port {server.server_port}", flush=True)
    server.serve_forever()
