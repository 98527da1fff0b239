"""HTTP replies that a cloud does not send: cut, wrong, huge, or from a proxy."""

import json

from hypothesis import strategies as st

from tests.fuzz.harness import CANARY, Json, documents, mangled, mutated, spelled

STATUSES = (*[200] * 4, 204, 206, 301, 307, 400, 401, 403, 404, 409, 412, 413, 429, 500, 503, 599, 999)
SECRET = CANARY.encode()
XML_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]><x>&d;</x>'
)
BODIES = (
    *(b"", b"null", b"[]", b"{}", b'""', b"7", b"\x00", b"\xff\xfe\xfd", b"\xef\xbb\xbf{}", b"[" * 5000),
    *(b'{"Item":' * 2000, b"<a>" * 5000, b"<Error></Error>", b"<Error><Code/></Error>", XML_BOMB),
    b"<Error><Code>" + SECRET,
    b"<html><body>Proxy says no to " + SECRET + b"</body></html>",
    # Valid JSON, because OCI's SDK guesses the character set of anything else, which takes seconds for each megabyte.
    b'{"x":"' + b"x" * 300_000 + b'"}',
    b'{"__type":7}',
    b'{"__type":"","message":null}',
    b'{"__type":"com.amazonaws#ThrottlingException","message":"' + SECRET + b'"}',
    b'{"__type":"ResourceNotFoundException","message":"' + SECRET + b'"}',
    b'{"__type":"ConditionalCheckFailedException","Item":{"fence":{"N":"x"}}}',
    b'{"__type":"ConditionalCheckFailedException","Item":7}',
    b'{"code":"LimitExceeded","message":"' + SECRET + b'"}',
    b'{"code":7,"message":[]}',
)
HEADERS = (
    *("", "content-type: application/json", "content-type: text/html; charset=nonsense", "no-colon"),
    *("content-encoding: gzip", "content-encoding: br", "transfer-encoding: chunked", "x-amz-crc32: 1"),
    *("x-amz-crc32: x", "x-amzn-errortype: ", "x-amzn-query-error: ;", "x-amz-checksum-sha256: AAAA"),
    *("x-amz-meta-seq: x", "x-amz-bucket-region: nowhere", "location: http://127.0.0.1:1/", "etag: x"),
    *("date: yesterday", "last-modified: yesterday", "retry-after: never", "opc-next-page: x"),
)


def whole(valid: object) -> bytes:
    """A valid reply with a body: a document, or bytes."""
    body = valid if isinstance(valid, bytes) else json.dumps(valid).encode()
    head = b"etag: e1\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(
        body
    )
    return b"HTTP/1.1 200 OK\r\n%s\r\n%s" % (head, body)


def replies(valid: Json) -> st.SearchStrategy[bytes]:
    """A reply whose status, headers, body and length may each be wrong.

    Args:
        valid: The body of a valid reply: a document, or bytes if it is not JSON.
    """
    right = valid if isinstance(valid, bytes) else json.dumps(valid).encode()
    wrong = mangled(right) if isinstance(valid, bytes) else mutated(valid).map(lambda d: spelled(d).encode())
    others = st.sampled_from([right, *BODIES]) | documents.map(lambda d: spelled(d).encode())
    return (wrong | wrong | others).flatmap(framed)


@st.composite
def framed(draw: st.DrawFn, body: bytes) -> bytes:
    """A body as a reply, whole or cut."""
    status = draw(st.sampled_from(STATUSES))
    headers = [
        line.encode() + b"\r\n" for line in draw(st.lists(st.sampled_from(HEADERS), max_size=2)) if line
    ]
    length = draw(st.sampled_from([len(body)] * 5 + [0, len(body) + 7, len(body) // 2, None]))
    if length is not None:
        headers.append(b"content-length: %d\r\n" % length)
    reply = b"HTTP/1.1 %d x\r\n%sconnection: close\r\n\r\n%s" % (status, b"".join(headers), body)
    match draw(st.sampled_from(["whole"] * 6 + ["cut", "no head", "garbage"])):
        case "cut":
            return reply[: draw(st.integers(0, min(len(reply), 400)))]
        case "no head":
            return body
        case "garbage":
            return draw(st.binary(max_size=40))
        case _:
            return reply
