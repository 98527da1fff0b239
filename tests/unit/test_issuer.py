"""The issuer's documents, which keys they name, and how they are read."""

import base64
import json
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
)
from lockstep.protocol.federation import (
    Origin,
    Place,
    configuration,
    key_set,
    origin_of_configuration,
    place_of,
    public_key,
    publication,
    published_keys,
    strangers,
    successor,
)
from lockstep.protocol.strict_json import MessageError
from lockstep.runtime import issuer as reading
from lockstep.runtime.issuer import read_document
from lockstep.runtime.system import SystemClock
from sandbox.emulators.oci.names import Answer, Names, Trouble

ISSUER = "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/ns/b/lockstep-issuer/o"
NOW = datetime(2026, 11, 27, tzinfo=UTC)


def pem(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.mark.parametrize(
    ("issuer", "place"),
    [
        (ISSUER, Place(region="eu-frankfurt-1", namespace="ns", bucket="lockstep-issuer")),
        (
            "https://ns.objectstorage.eu-frankfurt-1.oci.customer-oci.com/n/ns/b/b/o",
            Place(region="eu-frankfurt-1", namespace="ns", bucket="b"),
        ),
        (
            f"{ISSUER}/one/two",
            Place(region="eu-frankfurt-1", namespace="ns", bucket="lockstep-issuer", prefix="one/two/"),
        ),
        ("https://issuer.example.com", None),
        ("https://objectstorage.eu-frankfurt-1.oraclecloud.com.evil.example/n/ns/b/b/o", None),
        (f"{ISSUER}/", None),
        ("https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/ns/b/b", None),
    ],
)
def test_an_address_of_object_storage_names_its_bucket(issuer: str, place: Place | None) -> None:
    assert place_of(issuer) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        pem(ec.generate_private_key(ec.SECP256R1()).public_key()),
        pem(rsa.generate_private_key(65537, 1024).public_key()),  # noqa: S505 - too short, as the test needs it
    ],
)
def test_only_a_long_rsa_key_verifies_tokens(text: str) -> None:
    with pytest.raises(MessageError):
        public_key("kid", text)


def test_a_document_says_whose_it_is() -> None:
    ours = configuration(ISSUER)
    assert origin_of_configuration(None, ISSUER) is Origin.ABSENT
    assert origin_of_configuration(ours, ISSUER) is Origin.SAME
    assert origin_of_configuration(json.dumps(json.loads(ours)).encode(), ISSUER) is Origin.OLDER
    assert origin_of_configuration(ours, f"{ISSUER}/x") is Origin.FOREIGN
    moved = {**json.loads(ours), "jwks_uri": "https://evil.example/jwks.json"}
    assert origin_of_configuration(json.dumps(moved).encode(), ISSUER) is Origin.FOREIGN


def test_a_key_set_tells_its_strangers() -> None:
    keys = [public_key(kid, pem(rsa.generate_private_key(65537, 2048).public_key())) for kid in "ab"]
    known = {key.kid: key for key in keys}
    document = key_set(keys)
    assert list(published_keys(document) or {}) == ["a", "b"]
    assert strangers(document, known) == []
    assert strangers(document, {"a": keys[0]}) == ["b"]
    assert strangers(key_set([keys[0], keys[0]]), known) == ("a document that is no key set",)
    for certificate in ("x5c", "x5u"):
        beside = {"keys": [{**keys[0].jwk, certificate: ["another key"]}, dict(keys[1].jwk)]}
        assert strangers(json.dumps(beside).encode(), known) == ["a"]
    exchanged = {**dict(keys[1].jwk), "kid": "a"}
    assert strangers(json.dumps({"keys": [exchanged]}).encode(), known) == ["a"]


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_document_that_says_a_thing_twice_is_nobodys(order: str) -> None:
    """One verifier takes the first value, another one the last."""
    ours = configuration(ISSUER).decode().strip()
    evil = '"jwks_uri": "https://evil.example/jwks.json"'
    both = f"{{{evil}, {ours[1:]}" if order == "before" else f"{ours[:-1]}, {evil}}}"
    assert origin_of_configuration(both.encode(), ISSUER) is Origin.FOREIGN
    key = public_key("a", pem(rsa.generate_private_key(65537, 2048).public_key()))
    plain = json.dumps(dict(key.jwk))
    twice = plain.replace('{"kty"', '{"n": "AQAB", "kty"')
    assert published_keys(f'{{"keys": [{plain}]}}'.encode()) is not None
    assert published_keys(f'{{"keys": [{twice}]}}'.encode()) is None
    assert published_keys(f'{{"keys": [], "keys": [{plain}]}}'.encode()) is None


@dataclass(frozen=True)
class Version:
    id: str
    days: int
    is_enabled: bool = True

    @property
    def made_at(self) -> datetime:
        return NOW + timedelta(days=self.days)


@pytest.mark.parametrize(
    ("published", "more", "retired", "trusted", "dropped"),
    [
        (set[str](), set[str](), set[str](), ["b"], []),
        ({"a", "b"}, set(), set(), ["b", "a"], []),
        ({"a", "b"}, {"c"}, set(), ["c", "b", "a"], []),
        ({"a", "b"}, set(), {"a"}, ["b"], ["a"]),
        ({"a", "b"}, set(), {"b"}, ["b", "a"], []),  # What the plan names stays.
        ({"b", "gone"}, set(), set(), ["b"], ["gone"]),
        ({"b", "foreign"}, set(), set(), ["b"], []),
        ({"b"}, set(), {"a"}, ["b"], []),
    ],
)
def test_the_key_set_names_what_it_named_and_what_the_plan_names(
    published: set[str], more: set[str], retired: set[str], trusted: list[str], dropped: list[str]
) -> None:
    versions = [Version("gone", 0, is_enabled=False), Version("a", 1), Version("b", 2), Version("c", 3)]
    found = publication(versions, named="b", published=published, more=more, retired=retired)
    assert (found.trusted, found.dropped) == (trusted, dropped)


def test_a_rotation_goes_on_with_a_version_that_it_has_made() -> None:
    versions = [Version("a", 1), Version("b", 2)]
    assert successor(versions, "b") is None
    assert successor([*versions, Version("c", 3, is_enabled=False)], "b") is None
    assert successor([*versions, Version("c", 3)], "b") == "c"
    assert successor([*versions, Version("c", 3)], "a") == "c"


# Reading


@pytest.fixture(name="names")
def _names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    with Names() as found:
        found.serve("localhost", lambda _: Answer(200, b"{}"))
        monkeypatch.setenv("SSL_CERT_FILE", str(found.ca_file))
        yield found


def read(names: Names) -> bytes:
    return read_document(f"https://localhost:{names.port}/o/jwks.json", SystemClock())


def test_a_document_is_read_through_the_proxy_of_the_machine(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def serve(proxy: socket.socket) -> None:
        client, _ = proxy.accept()
        with client, socket.create_connection(("127.0.0.1", names.port)) as server:
            asked.append(client.recv(4096))
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while ready := select.select([client, server], [], [], 5)[0]:
                for one in ready:
                    part = one.recv(4096)
                    (server if one is client else client).sendall(part)
                    if not part:
                        return

    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(names.ca_file))
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:a%20word@127.0.0.1:{proxy.getsockname()[1]}")
        thread = threading.Thread(target=serve, args=[proxy])
        thread.start()
        assert read_document("https://localhost/o/jwks.json", SystemClock()) == b"{}"
        thread.join(10)
    [request] = asked
    assert request.startswith(b"CONNECT localhost:443 HTTP/1.")
    assert base64.b64encode(b"me:a word") in request


@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        (Trouble.SILENT, Environment.ENDPOINT_UNREACHABLE),
        (Trouble.SLOW, None),
        (Trouble.CUT, None),
        (Trouble.HUGE, Environment.ISSUER_NOT_PUBLIC),
        (Trouble.WRONG_CERTIFICATE, Environment.CERTIFICATE_REFUSED),
        (Trouble.EXPIRED_CERTIFICATE, Environment.CERTIFICATE_REFUSED),
        (Trouble.UNKNOWN_AUTHORITY, Environment.CERTIFICATE_REFUSED),
        (Trouble.REDIRECT, Environment.ISSUER_NOT_PUBLIC),
        (Trouble.NOT_FOUND, Environment.ISSUER_NOT_PUBLIC),
    ],
)
def test_what_a_verifier_would_not_take_is_not_taken(
    names: Names, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, problem: Environment | None
) -> None:
    if trouble in {Trouble.SILENT, Trouble.SLOW}:
        monkeypatch.setattr(reading, "WITHIN_SECONDS", 1.0)
    if trouble in {Trouble.SLOW, Trouble.CUT}:
        names.serve("localhost", lambda _: Answer(200, b"x" * 5000))
    names.troubles["localhost"] = trouble
    clock = SystemClock()
    begin = clock.monotonic()
    with pytest.raises(EnvironmentalError) as caught:
        read(names)
    assert problem in {None, caught.value.problem}
    assert clock.monotonic() - begin < 5
