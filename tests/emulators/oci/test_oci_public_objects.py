"""Objects that anyone may read: at the sandbox's endpoint, and at the service's own name over HTTPS."""

from collections.abc import Iterator

import pytest
import urllib3

from sandbox.emulators.oci import OBJECT_STORAGE_HOST, OciSandbox
from sandbox.emulators.oci.names import FetchError, Names
from sandbox.oci_resources import create_issuer_bucket
from tests.emulators.oci.oci_case import OciCase, refused

DOCUMENT = b'{"keys": []}'


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


@pytest.fixture
def issuer(case: OciCase) -> str:
    issuer = create_issuer_bucket(case.sandbox, "issuer")
    case.put("jwks.json", DOCUMENT, bucket="issuer", content_type="application/json")
    return issuer


def read(case: OciCase, path: str) -> tuple[int, bytes, str | None]:
    reply = urllib3.request("GET", f"{case.sandbox.endpoint}{path}", timeout=10.0, retries=False)
    return reply.status, reply.data, reply.headers.get("content-type")


def path_of(case: OciCase, name: str, bucket: str = "issuer") -> str:
    return f"/n/{case.sandbox.namespace}/b/{bucket}/o/{name}"


def test_an_issuer_is_a_bucket_by_its_name(case: OciCase, issuer: str) -> None:
    assert issuer == f"https://{OBJECT_STORAGE_HOST}/n/{case.sandbox.namespace}/b/issuer/o"
    assert OBJECT_STORAGE_HOST == "objectstorage.eu-frankfurt-1.oraclecloud.com"
    assert case.sandbox.names.fetch(f"{issuer}/jwks.json") == DOCUMENT
    case.put(".well-known/openid-configuration", b"{}", bucket="issuer")
    assert case.sandbox.names.fetch(f"{issuer}/.well-known/openid-configuration") == b"{}"


def test_a_private_bucket_looks_like_a_missing_one(case: OciCase, issuer: str) -> None:
    case.create_bucket("private")
    case.put("jwks.json", DOCUMENT, bucket="private")
    for path in (path_of(case, "jwks.json", "private"), path_of(case, "jwks.json", "none")):
        status, body, _ = read(case, path)
        assert (status, b"BucketNotFound" in body, DOCUMENT in body) == (404, True, False)
    with pytest.raises(FetchError, match="status 404"):
        case.sandbox.names.fetch(issuer.replace("/b/issuer/", "/b/private/") + "/jwks.json")


def test_nobody_lists_what_anyone_reads(case: OciCase, issuer: str) -> None:
    assert issuer
    listing = f"/n/{case.sandbox.namespace}/b/issuer/o"
    assert read(case, listing)[0] == 404
    case.sandbox.storage.set_public_access("issuer", "ObjectRead")
    status, body, _ = read(case, listing)
    assert (status, b"jwks.json" in body) == (200, True)


def test_anyone_reads_and_nobody_writes(case: OciCase, issuer: str) -> None:
    url = f"{case.sandbox.endpoint}{path_of(case, 'jwks.json')}"
    for method in ("PUT", "DELETE"):
        reply = urllib3.request(method, url, timeout=10.0, retries=False)
        assert (reply.status, reply.json()["code"]) == (401, "NotAuthenticated")
    _, _, storage = case.clients(case.sandbox.new_api_key("stranger"))
    assert storage.get_object(case.sandbox.namespace, "issuer", "jwks.json").data.content == DOCUMENT
    with refused(404, "BucketNotFound"):
        storage.put_object(case.sandbox.namespace, "issuer", "jwks.json", b"{}")
    assert case.sandbox.names.fetch(f"{issuer}/jwks.json") == DOCUMENT


def test_a_wrong_signature_is_refused_even_where_none_is_needed(case: OciCase, issuer: str) -> None:
    assert issuer
    config = case.sandbox.new_api_key("leaver")
    case.sandbox.identity.delete_api_key(config)
    _, _, storage = case.clients(config)
    with refused(401, "NotAuthenticated"):
        storage.get_object(case.sandbox.namespace, "issuer", "jwks.json")


def test_names_are_shared_and_left_to_their_owner() -> None:
    with Names() as names:
        names.serve("other.example", lambda _: names.answer("", ""))
        with OciSandbox(names=names) as sandbox:
            issuer = create_issuer_bucket(sandbox, "issuer")
            with pytest.raises(FetchError, match="status 404"):
                names.fetch(f"{issuer}/jwks.json")
        with pytest.raises(FetchError, match="does not resolve"):
            names.fetch(f"{issuer}/jwks.json")
        with pytest.raises(FetchError, match="status 404"):
            names.fetch("https://other.example/")
