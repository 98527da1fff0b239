"""Both stores down for longer than the overlap, for an agent in a process of its own with the real SDKs."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path

from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.agent import READER_MAY, RunningAgent, running_agent
from sandbox.aws import AwsSandbox
from sandbox.oci import OciSandbox, write_config_file
from sandbox.oci.resources import create_ring
from tests.agent.harness import NAME, NEEDLE, Address, Answer, app_user
from tests.agent.process import until
from tests.support.peer import peer

OVERLAP_SECONDS = 8


@contextmanager
def _way_to(port: int, down: threading.Event) -> Iterator[int]:
    """A port that leads to another one, and hangs up while it is down."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while (data := source.recv(65536)) and not down.is_set():
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def pass_on(client: socket.socket) -> None:
        if down.is_set():
            return
        with socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=pump, args=(server, client))
            back.start()
            pump(client, server)
            back.join()

    with peer(pass_on) as listening:
        yield listening


def _asked(agent: RunningAgent) -> Answer:
    return Address(agent.port).get(f"/v1/{NAME}", token=agent.token)


def _is_refused(agent: RunningAgent) -> bool | None:
    return _asked(agent).status == HTTPStatus.SERVICE_UNAVAILABLE or None


def _gives(agent: RunningAgent, text: str) -> bool | None:
    answer = _asked(agent)
    return (answer.status == HTTPStatus.OK and json.loads(answer.body)["SecretString"] == text) or None


def test_it_says_so_refuses_a_value_that_may_be_revoked_and_recovers_by_itself(tmp_path: Path) -> None:
    down = threading.Event()
    with (
        AwsSandbox() as aws,
        OciSandbox() as oci,
        _way_to(int(aws.url.rpartition(":")[2]), down) as way,
    ):
        secrets = aws.client("secretsmanager")
        secrets.create_secret(Name=NAME, SecretString=app_user(1))
        create_ring(oci, NAME, app_user(1), slots=4)
        key = oci.new_api_key("agent", *READER_MAY, compartment=oci.compartment_id)
        vault = {"region": "eu-frankfurt-1", "compartment_id": oci.compartment_id, "vault_id": oci.vault_id}
        document = {
            "stores": [
                {"kind": "oci-vault", "ring": 4, **vault},
                {"kind": "aws-secrets-manager", "region": aws.region},
            ],
            "serve": [{"id": NAME, "secrets": {"app_user": NAME}, "overlap": f"{OVERLAP_SECONDS}s"}],
        }
        environment = {
            **os.environ,
            **aws.environment(),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{way}",
            OCI_ENDPOINT_VARIABLE: oci.endpoint,
            CONFIG_FILE_VARIABLE: str(write_config_file(tmp_path, "agent", key)),
        }
        reads: list[float] = []
        oci.on_call = lambda when, *_: reads.append(time.monotonic()) if when == "after" else None
        with running_agent(tmp_path, document, environment) as agent:
            assert _gives(agent, app_user(1))
            outages = [oci.faults.outage(service) for service in ("vault", "secrets")]
            down.set()
            last_read = reads[-1]
            until(partial(_is_refused, agent))
            # A value is as old as the beginning of its read, which ended here.
            assert time.monotonic() - last_read > OVERLAP_SECONDS / 2
            health = Address(agent.port).get("/healthz", token=None)
            assert health.status == 503
            assert "UnreachableError" in health.body
            secrets.put_secret_value(SecretId=NAME, SecretString=app_user(2))
            down.clear()
            until(partial(_gives, agent, app_user(2)))
            for outage in outages:
                outage.lift()
            assert "a store was not read" in agent.log.read_text()
            assert NEEDLE not in agent.log.read_text()
