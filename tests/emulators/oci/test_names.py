"""Names with HTTPS servers of their own, and the reader that reaches nothing else."""

import time
from collections.abc import Iterator

import pytest

from sandbox.emulators.oci.names import LIMIT_BYTES, WITHIN_SECONDS, FetchError, Names, Trouble
from sandbox.emulators.oci.wire import Reply

HOST = "issuer.example.com"
OTHER = "other.example.com"
URL = f"https://{HOST}/keys?a=b"
SECONDS_OF_THE_SLOW = 3.5
"""A name that trickles takes longer than that for its answer, and one that is silent too."""


@pytest.fixture
def names() -> Iterator[Names]:
    with Names() as names:
        names.serve(HOST, lambda target: Reply(200, body=f"issuer {target}".encode()))
        names.serve(OTHER, lambda target: Reply(200, body=f"other {target}".encode()))
        yield names


def test_only_a_name_that_is_served_resolves(names: Names) -> None:
    assert names.fetch(URL) == b"issuer /keys?a=b"
    assert names.fetch(f"https://{OTHER}") == b"other /"
    names.forget(OTHER)
    for host in (OTHER, "localhost", "127.0.0.1", "[::1]"):
        with pytest.raises(FetchError, match="does not resolve"):
            names.fetch(f"https://{host}/")


def test_only_https_urls_without_a_port_are_read(names: Names) -> None:
    ends = (":443/keys", ":/keys", ":port/", "/keys#part", "/keys\r\nX: y", "/a b")
    for url in (
        *(f"https://{HOST}{end}" for end in ends),
        f"http://{HOST}/",
        f"https://user@{HOST}/",
        "https:///",
        HOST,
    ):
        with pytest.raises(FetchError, match="URL"):
            names.fetch(url)


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        (Trouble.REFUSED, "could not be read"),
        (Trouble.SILENT, "did not answer within 0.3 s"),
        (Trouble.SLOW, "did not answer within 0.3 s"),
        (Trouble.CUT, "could not be read: IncompleteRead"),
        (Trouble.HUGE, "more than"),
        (Trouble.WRONG_CERTIFICATE, "certificate of issuer.example.com is not valid: Hostname mismatch"),
        (Trouble.EXPIRED_CERTIFICATE, "is not valid: certificate has expired"),
        (Trouble.UNKNOWN_AUTHORITY, "is not valid: unable to get local issuer"),
        (Trouble.REDIRECT, "status 302"),
        (Trouble.NOT_FOUND, "status 404"),
    ],
)
def test_each_trouble_is_told_in_time(names: Names, trouble: Trouble, text: str) -> None:
    names.troubles[HOST] = trouble
    start = time.monotonic()
    with pytest.raises(FetchError, match=text):
        names.fetch(URL, within_seconds=0.3 if trouble in {Trouble.SILENT, Trouble.SLOW} else WITHIN_SECONDS)
    assert time.monotonic() - start < SECONDS_OF_THE_SLOW - 0.5
    assert names.fetch(f"https://{OTHER}/") == b"other /"
    del names.troubles[HOST]
    assert names.fetch(URL) == b"issuer /keys?a=b"


def test_a_document_may_have_all_of_the_limit_and_not_a_byte_more(names: Names) -> None:
    names.serve(HOST, lambda target: Reply(200, body=b"x" * int(target[1:])))
    assert len(names.fetch(f"https://{HOST}/{LIMIT_BYTES}")) == LIMIT_BYTES
    with pytest.raises(FetchError, match="more than"):
        names.fetch(f"https://{HOST}/{LIMIT_BYTES + 1}")
