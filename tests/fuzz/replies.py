"""HTTP replies that a cloud does not send: cut, wrong, huge, or from a proxy."""

import json

from hypothesis import strategies as st

from tests.fuzz.harness import CANARY, Json, documents, mangled, mutated, spelled

STATUSES = [
    200,
    200,
    200,
    200,
    204,
    206,
    301,
    307,
    400,
    401,
    403,
    404,
    409,
    412,
    413,
    429,
    500,
    503,
    599,
    999,
]
HTML = f"<html><body>Proxy says no to {CANARY}</body></html>".encode()
XML_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]><x>&d;</x>'
)
# Valid JSON, because OCI's SDK guesses the character set of anything else, which takes seconds for each megabyte.
HUGE = b'{"x":"' + b"x" * 300_000 + b'"}'
BODIES = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"7",
    b"\x00",
    b"\xff\xfe\xfd",
    b"\xef\xbb\xbf{}",
    b"[" * 5000,
    b'{"Item":' * 2000,
    b"<a>" * 5000,
    b"<Error><Code>" + CANARY.encode(),
    b"<Error></Error>",
    b"<Error><Code/></Error>",
    HTML,
    XML_BOMB,
    HUGE,
    b'{"__type":7}',
    b'{"__type":"","message":null}',
    b'{"__type":"com.amazonaws#ThrottlingException","message":"' + CANARY.encode() + b'"}',
    b'{"__type":"ResourceNotFoundException","message":"' + CANARY.encode() + b'"}',
    b'{"__type":"ConditionalCheckFailedException","Item":{"fence":{"N":"x"}}}',
    b'{"__type":"ConditionalCheckFailedException","Item":7}',
    b'{"code":"LimitExceeded","message":"' + CANARY.encode() + b'"}',
    b'{"code":7,"message":[]}',
]
HEADERS = [
    b"",
    b"content-type: application/json\r\n",
    b"content-type: text/html; charset=nonsense\r\n",
    b"content-encoding: gzip\r\n",
    b"content-encoding: br\r\n",
    b"transfer-encoding: chunked\r\n",
    b"x-amz-crc32: 1\r\n",
    b"x-amz-crc32: x\r\n",
    b"x-amzn-errortype: \r\n",
    b"x-amzn-query-error: ;\r\n",
    b"x-amz-checksum-sha256: AAAA\r\n",
    b"x-amz-meta-seq: x\r\n",
    b"x-amz-bucket-region: nowhere\r\n",
    b"location: http://127.0.0.1:1/\r\n",
    b"date: yesterday\r\n",
    b"last-modified: yesterday\r\n",
    b"retry-after: never\r\n",
    b"etag: x\r\n",
    b"opc-next-page: x\r\n",
    b"no-colon\r\n",
]


@st.composite
def replies(draw: st.DrawFn, valid: Json) -> bytes:
    """A reply whose status, headers, body and length may each be wrong.

    Args:
        draw: Hypothesis's.
        valid: The body of a valid reply: a document, or bytes if it is not JSON.
    """
    right = valid if isinstance(valid, bytes) else json.dumps(valid).encode()
    mutation = (
        mangled(valid) if isinstance(valid, bytes) else mutated(valid).map(lambda d: spelled(d).encode())
    )
    body = draw(
        st.one_of(
            mutation,
            mutation,
            st.sampled_from(BODIES),
            documents.map(lambda d: spelled(d).encode()),
            st.just(right),
        )
    )
    return draw(framed(body))


@st.composite
def framed(draw: st.DrawFn, body: bytes) -> bytes:
    """A body as a reply, whole or cut."""
    status = draw(st.sampled_from(STATUSES))
    headers = b"".join(draw(st.lists(st.sampled_from(HEADERS), max_size=2)))
    length = draw(st.sampled_from([len(body)] * 5 + [0, len(body) + 7, len(body) // 2, None]))
    if length is not None:
        headers += b"content-length: %d\r\n" % length
    reply = b"HTTP/1.1 %d x\r\n%sconnection: close\r\n\r\n%s" % (status, headers, body)
    match draw(st.sampled_from(["whole"] * 6 + ["cut", "no head", "garbage"])):
        case "cut":
            return reply[: draw(st.integers(0, min(len(reply), 400)))]
        case "no head":
            return body
        case "garbage":
            return draw(st.binary(max_size=40))
        case _:
            return reply
