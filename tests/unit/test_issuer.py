"""The issuer's documents, and which keys they name."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lockstep.protocol import federation
from lockstep.protocol.strict_json import MessageError

OBJECTS = "objectstorage.eu-frankfurt-1"
ISSUER = f"https://{OBJECTS}.oraclecloud.com/n/ns/b/lockstep-issuer/o"
KEY = rsa.generate_private_key(65537, 2048).public_key()


def pem(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.mark.parametrize(
    ("issuer", "place"),
    [
        (ISSUER, ("eu-frankfurt-1", "ns", "lockstep-issuer", "")),
        (f"https://ns.{OBJECTS}.oci.customer-oci.com/n/ns/b/b/o", ("eu-frankfurt-1", "ns", "b", "")),
        (f"{ISSUER}/one/two", ("eu-frankfurt-1", "ns", "lockstep-issuer", "one/two/")),
        ("https://issuer.example.com", None),
        (f"https://{OBJECTS}.oraclecloud.com.evil.example/n/ns/b/b/o", None),
        (f"https://{OBJECTS}.oraclecloud.com/n/ns/b/b", None),
    ],
)
def test_an_address_of_object_storage_names_its_bucket(issuer: str, place: tuple[str, ...] | None) -> None:
    found = federation.place_of(issuer)
    assert (found and (found.region, found.namespace, found.bucket, found.prefix)) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        pem(ec.generate_private_key(ec.SECP256R1()).public_key()),
        pem(rsa.generate_private_key(65537, 1024).public_key()),  # noqa: S505 - too short, as the test needs it
    ],
    ids=["nothing", "no key", "of another kind", "too short"],
)
def test_only_a_long_rsa_key_verifies_tokens(text: str) -> None:
    with pytest.raises(MessageError):
        federation.public_key("kid", text)


OURS = federation.configuration(ISSUER)
TEXT, EVIL = OURS.decode().strip(), '"jwks_uri": "https://evil.example/jwks.json"'
DOCUMENTS: list[tuple[bytes, str, bool]] = [
    (OURS, ISSUER, True),
    (json.dumps(json.loads(OURS)).encode(), ISSUER, True),
    (OURS, f"{ISSUER}/x", False),
    (json.dumps({**json.loads(OURS), "jwks_uri": "https://evil.example/jwks.json"}).encode(), ISSUER, False),
    # One verifier takes the first value of what is said twice, another one the last.
    (f"{{{EVIL}, {TEXT[1:]}".encode(), ISSUER, False),
    (f"{TEXT[:-1]}, {EVIL}}}".encode(), ISSUER, False),
]


@pytest.mark.parametrize(("document", "issuer", "ours"), DOCUMENTS)
def test_a_document_says_whose_it_is(document: bytes, issuer: str, *, ours: bool) -> None:
    assert federation.is_of_issuer(document, issuer) is ours


def test_a_key_set_tells_its_strangers() -> None:
    keys = [
        federation.public_key("a", pem(KEY)),
        federation.public_key("b", pem(rsa.generate_private_key(65537, 2048).public_key())),
    ]
    known = {key["kid"]: key for key in keys}
    document = federation.key_set(keys)
    assert list(federation.published_keys(document) or {}) == ["a", "b"]
    assert federation.strangers(document, known) == []
    assert federation.strangers(document, {"a": keys[0]}) == ["b"]
    assert federation.strangers(federation.key_set([keys[0], keys[0]]), known) == (
        "a document that is no key set",
    )
    for certificate in ("x5c", "x5u"):
        beside = {"keys": [{**keys[0], certificate: ["another key"]}, keys[1]]}
        assert federation.strangers(json.dumps(beside).encode(), known) == ["a"]
    exchanged = {**keys[1], "kid": "a"}
    assert federation.strangers(json.dumps({"keys": [exchanged]}).encode(), known) == ["a"]
    plain = json.dumps(keys[0])
    twice = f'{{"n": "AQAB", {plain[1:]}'
    assert federation.published_keys(f'{{"keys": [{plain}]}}'.encode()) is not None
    assert federation.published_keys(f'{{"keys": [{twice}]}}'.encode()) is None
    assert federation.published_keys(f'{{"keys": [], "keys": [{plain}]}}'.encode()) is None
