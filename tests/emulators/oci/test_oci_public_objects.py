"""Objects that anyone may read: at the sandbox's endpoint, and at the service's own name over HTTPS."""

import pytest
import urllib3

from sandbox.emulators.oci.names import FetchError
from sandbox.oci_resources import create_issuer_bucket
from tests.emulators.oci.oci_case import OciCase, refused

DOCUMENT = b'{"keys": []}'


@pytest.fixture
def issuer(case: OciCase) -> str:
    issuer = create_issuer_bucket(case.sandbox, "issuer")
    case.put("jwks.json", DOCUMENT, bucket="issuer", content_type="application/json")
    return issuer


def send(case: OciCase, path: str, method: str = "GET") -> tuple[int, bytes]:
    url = f"{case.sandbox.endpoint}/n/{case.sandbox.namespace}/b/{path}"
    reply = urllib3.request(method, url, timeout=10.0, retries=False)
    return reply.status, reply.data


def test_a_private_bucket_looks_like_a_missing_one(case: OciCase, issuer: str) -> None:
    case.create_bucket("private")
    case.put("jwks.json", DOCUMENT, bucket="private")
    for bucket in ("private", "none"):
        status, body = send(case, f"{bucket}/o/jwks.json")
        assert (status, b"BucketNotFound" in body, DOCUMENT in body) == (404, True, False)
    with pytest.raises(FetchError, match="status 404"):
        case.sandbox.names.fetch(issuer.replace("/b/issuer/", "/b/private/") + "/jwks.json")


@pytest.mark.usefixtures("issuer")
def test_anyone_reads_and_nobody_lists_or_writes(case: OciCase) -> None:
    assert send(case, "issuer/o")[0] == 404
    for method in ("PUT", "DELETE"):
        assert send(case, "issuer/o/jwks.json", method)[0] == 401
    _, _, storage = case.clients(case.sandbox.new_api_key("stranger"))
    assert storage.get_object(case.sandbox.namespace, "issuer", "jwks.json").data.content == DOCUMENT
    with refused(404, "BucketNotFound"):
        storage.put_object(case.sandbox.namespace, "issuer", "jwks.json", b"{}")
    case.sandbox.storage.set_public_access("issuer", "ObjectRead")
    status, body = send(case, "issuer/o")
    assert (status, b"jwks.json" in body) == (200, True)


@pytest.mark.usefixtures("issuer")
def test_a_wrong_signature_is_refused_even_where_none_is_needed(case: OciCase) -> None:
    config = case.sandbox.new_api_key("leaver")
    case.sandbox.identity.delete_api_key(config)
    with refused(401, "NotAuthenticated"):
        case.clients(config)[2].get_object(case.sandbox.namespace, "issuer", "jwks.json")
