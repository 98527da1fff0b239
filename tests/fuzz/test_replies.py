"""Fuzzed replies of both clouds: on the real SDKs, our adapters return a value or raise one of our errors.

Each operation is done once in the sandbox, and then again and again with the replies of then, of which one is changed.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.wrappers import Response

from lockstep.aws.clients import AwsKeys, aws_client, caller_arn
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.aws.kms import KmsDigestKey, KmsSigner
from lockstep.aws.secrets_manager import SecretsManagerSecret, read_secret
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.ring import VaultRing
from lockstep.oci.vault import Vault, VaultSigner
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.orders import Account, Activate
from lockstep.protocol.ring import SLOTS
from lockstep.stores.credential import CredentialStore
from sandbox import oci_resources
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_resources
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.wire import Reply
from sandbox.http_front import aws_front, oci_front
from sandbox.identities import endless
from tests.fuzz.harness import CANARY, inputs, judged, mangled, spoiled
from tests.support.fence import fence_held
from tests.support.logs import object_storage_log, s3_log
from tests.support.memory import EPOCH, FakeClock, make_plan

# Replies that a cloud does not send: wrong, huge, or from a proxy

STATUSES = (206, 301, 307, 400, 401, 403, 404, 409, 412, 413, 429, 500, 503, 599, 999)
XML_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]><x>&d;</x>'
)
BODIES = (
    *(b"", b"null", b"[]", b"{}", b'""', b"7", b"\x00", b"\xff\xfe\xfd", b"\xef\xbb\xbf{}", b"[" * 5000),
    *(b'{"Item":' * 2000, b"<a>" * 5000, b"<Error></Error>", b"<Error><Code/></Error>", XML_BOMB),
    b"<Error><Code>" + CANARY.encode(),
    b"<html><body>Proxy says no to " + CANARY.encode() + b"</body></html>",
    # Valid JSON, because OCI's SDK guesses the character set of anything else, which takes seconds for each megabyte.
    b'{"x":"' + b"x" * 300_000 + b'"}',
    b'{"__type":7}',
    b'{"__type":"","message":null}',
    b'{"__type":"com.amazonaws#ThrottlingException","message":"' + CANARY.encode() + b'"}',
    b'{"__type":"ResourceNotFoundException","message":"' + CANARY.encode() + b'"}',
    b'{"__type":"ConditionalCheckFailedException","Item":{"fence":{"N":"x"}}}',
    b'{"__type":"ConditionalCheckFailedException","Item":7}',
    b'{"code":"LimitExceeded","message":"' + CANARY.encode() + b'"}',
    b'{"code":7,"message":[]}',
)
HEADERS = (
    *("content-type: text/html; charset=nonsense", "content-encoding: gzip", "x-amz-crc32: x"),
    *("x-amzn-errortype: ", "x-amzn-query-error: ;", "x-amz-checksum-sha256: AAAA", "x-amz-meta-seq: x"),
    *("x-amz-bucket-region: nowhere", "etag: x", "location: http://127.0.0.1:1/", "date: yesterday"),
    *("last-modified: yesterday", "retry-after: never", "opc-next-page: x"),
)
Kept = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""


def changed(reply: Kept) -> st.SearchStrategy[Kept]:
    """One whose status, headers and body may each be wrong."""
    status, headers, body = reply
    try:
        wrong = spoiled(json.loads(body), body)
    except ValueError:
        wrong = mangled(body)
    lines = st.lists(st.sampled_from([line.split(": ") for line in HEADERS]), max_size=2)
    return st.tuples(
        st.sampled_from([*[status] * 15, *STATUSES]),
        lines.map(lambda more: {**headers, **dict(more)}),
        wrong | wrong | st.sampled_from([body, *BODIES]),
    )


class Tape:
    """In a wire's place: keeps the replies of an operation, or gives them again.

    Attributes:
        replies: Those of the operation.
        is_given: Whether they are given again, and no service is asked.
        asked: How many calls were made since then; where there are more than replies, they get the last one.
    """

    def __init__(self, made: Callable[[Kept], Response | Reply]) -> None:
        self._made = made
        self.replies: list[Kept] = []
        self.is_given = False
        self.asked = 0

    def exchange(
        self, _target: str, _operation: str, effect: Callable[[], Response | Reply], **_: object
    ) -> Response | Reply:
        if not self.is_given:
            found = effect()
            status = found.status if isinstance(found, Reply) else found.status_code
            body = found.body if isinstance(found, Reply) else found.get_data()
            headers = {n: value for n, value in found.headers.items() if n.lower() != "content-length"}
            self.replies.append((status, headers, body))
        self.asked += 1
        return self._made(self.replies[min(self.asked, len(self.replies)) - 1])


# The adapters, and what is done with them

CREDENTIAL = make_plan().credentials[0]
VALUE = CredentialValue(7, Login("app", SecretStr(CANARY)))
TEXT = json.dumps({"username": "app", "password": CANARY, "generation": 0})
SECRETS = (CREDENTIAL.secret_names.app_user, CREDENTIAL.secret_names.connection_blob)
ADMIN, BUCKET, TABLE = "lockstep/admin/orders", "lockstep-audit", "lockstep"
ACCOUNT = Account(database="db-1", host="db.example.com", port=3306, username="app")
HELD = {"now": EPOCH, "expires_at": EPOCH + timedelta(minutes=15)}
Operation = Callable[[Any], object]


def rotate(world: Any) -> None:  # noqa: ANN401 - of either cloud
    """Stage a value, and promote it."""
    seen = world.store.prepare(7, is_new=True)(VALUE).seen
    assert world.store.shows(world.store.prepare_promotion(7, seen=seen)(fence_held))


IN_BOTH: Mapping[str, Operation] = {
    "a rotation": rotate,
    "a generation": lambda w: w.store.read_generation(7).login,
    "the current value": lambda w: w.store.read_current(),
    "the names": lambda w: w.store.read_names(),
    "a signature": lambda w: w.signer.verify(b"x" * 32, w.signer.sign(b"x" * 32)),
    "an entry": lambda w: w.log.put(4, b"{}", {"chain": "{}"}),
    "a look at it": lambda w: w.log.look(4),
    "its text": lambda w: w.log.read(4),
    "a list": lambda w: [*w.log.numbers()],
    "a history": lambda w: [*w.log.history()],
}
IN_AWS: Mapping[str, Operation] = {
    "a lease": lambda w: w.lock.acquire(holder="run-1", force=True, **HELD),
    "an order": lambda w: w.orders.write(Activate(digest="a" * 64, replaces=None)),
    "a record": lambda w: w.lock.read(),
    "an account": lambda w: w.orders.register(ACCOUNT),
    "a digest": lambda w: (w.digests.sign(b"x" * 32), w.digests.public_key()),
    "a caller": lambda w: w.caller(),
    "a login": lambda w: w.login(),
}
OPERATIONS = {f"aws: {name}": done for name, done in {**IN_BOTH, **IN_AWS}.items()}
OPERATIONS |= {f"oci: {name}": done for name, done in IN_BOTH.items()}
OPERATIONS |= {"oci: the old ones": lambda w: w.store.prune()}


def aws_world(sandbox: AwsSandbox, port: int) -> Callable[[], SimpleNamespace]:
    """What makes the adapters of AWS anew."""
    made = create_resources(
        sandbox, lock_table=TABLE, audit_bucket=BUCKET, secrets=dict.fromkeys((*SECRETS, ADMIN), TEXT)
    )
    keys = AwsKeys(access_key_id="AKIA", secret_access_key=SecretStr("a-secret"))
    client = partial(
        aws_client, region=sandbox.region, keys=endless(keys), endpoint=f"http://127.0.0.1:{port}"
    )
    secrets, dynamodb, kms, s3 = map(client, ("secretsmanager", "dynamodb", "kms", "s3"))
    return lambda: SimpleNamespace(
        store=CredentialStore("aws", CREDENTIAL, partial(SecretsManagerSecret, secrets, "aws")),
        signer=KmsSigner(kms, made.mac_key_arn),
        log=s3_log(s3, BUCKET, CREDENTIAL.id),
        lock=DynamoDbLock(dynamodb, TABLE, CREDENTIAL.id),
        orders=DynamoDbOrders(dynamodb, TABLE, CREDENTIAL.id),
        digests=KmsDigestKey(kms, made.digest_key_arn),
        caller=partial(caller_arn, client("sts")),
        login=partial(read_secret, secrets, "aws", ADMIN),
    )


def oci_world(sandbox: OciSandbox, port: int) -> Callable[[], SimpleNamespace]:
    """What makes the adapters of OCI anew."""
    oci_resources.create_audit_bucket(sandbox, BUCKET, tier="Standard")
    oci_resources.create_secret(sandbox, "lockstep.mac", base64.b64encode(b"k" * 48))
    for secret in SECRETS:
        oci_resources.create_ring(sandbox, secret, TEXT)
    identity = OciIdentity(config=sandbox.config())
    clients = OciClients(lambda: identity, "eu-frankfurt-1", endpoint=f"http://127.0.0.1:{port}")

    def world() -> SimpleNamespace:
        vault = Vault(clients, compartment_id=sandbox.compartment_id, vault_id=sandbox.vault_id, store="oci")
        ring = partial(VaultRing, vault, slots=SLOTS, clock=FakeClock())
        return SimpleNamespace(
            store=CredentialStore("oci", CREDENTIAL, ring),
            signer=VaultSigner(vault, "lockstep.mac"),
            log=object_storage_log(clients, sandbox.namespace, BUCKET, CREDENTIAL.id),
        )

    return world


class Repeated:
    """The operations, done once in the sandbox.

    Attributes:
        replies: Those of each.
    """

    def __init__(self, **worlds: tuple[Callable[[], SimpleNamespace], Tape]) -> None:
        self._worlds = worlds
        self.replies: dict[str, list[Kept]] = {}
        for name in OPERATIONS:
            self.do(name, self.replies.setdefault(name, []))
        for _, tape in worlds.values():
            tape.is_given = True

    def do(self, name: str, replies: list[Kept]) -> None:
        """Do one, with these replies."""
        world, tape = self._worlds[name.partition(":")[0]]
        tape.replies, tape.asked = replies, 0
        OPERATIONS[name](world())

    def again(self, name: str, at: int, reply: Kept) -> None:
        """Do it again, with another one of its replies."""
        replies = self.replies[name]
        with judged():
            self.do(name, [*replies[:at], reply, *replies[at + 1 :]])


@pytest.fixture(scope="module")
def repeated() -> Iterator[Repeated]:
    in_aws = Tape(lambda reply: Response(reply[2], reply[0], dict(reply[1])))
    in_oci = Tape(lambda reply: Reply(*reply))
    wires: Any = (in_aws, in_oci)
    with (
        AwsSandbox() as aws,
        OciSandbox() as oci,
        aws_front(wires[0], aws) as aws_port,
        oci_front(wires[1], oci) as oci_port,
    ):
        yield Repeated(aws=(aws_world(aws, aws_port), in_aws), oci=(oci_world(oci, oci_port), in_oci))


@pytest.mark.parametrize("name", OPERATIONS)
@inputs(40)
@given(st.data())
def test_any_reply(repeated: Repeated, name: str, data: st.DataObject) -> None:
    replies = repeated.replies[name]
    at = data.draw(st.integers(0, len(replies) - 1))
    repeated.again(name, at, data.draw(changed(replies[at])))


@pytest.mark.parametrize("name", OPERATIONS)
def test_special_replies(repeated: Repeated, name: str) -> None:
    """What was given before is understood again."""
    repeated.do(name, repeated.replies[name])
    for at, (status, headers, _) in list(enumerate(repeated.replies[name]))[:3]:
        for body in BODIES:
            repeated.again(name, at, (status, headers, body))
