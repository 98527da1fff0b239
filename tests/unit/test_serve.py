"""The live page without a cloud: what it shows, what it refuses, how often it looks."""

import html
import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.operate.documents import FEW
from lockstep.operate.page.fleet import UNREAD, Asked, bar_of, figures, headline, mark, rows, shared
from lockstep.operate.page.server import Address
from lockstep.operate.page.snapshot import Calls, FleetSnapshot, Looker
from lockstep.operate.verdict import Kind, Reason
from lockstep.protocol.errors import LockTableUnreachableError
from lockstep.protocol.ports import Table
from tests.support.fleet import NOW, MadeUp, StillClock, look, shown, snapshot_of
from tests.support.memory import make_plan
from tests.unit.test_cli import PLAN


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with shown(MadeUp(60)) as url:
        yield url


def ask(
    url: str, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and text of an answer; of the headers only those that are given are sent."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=120)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": at.netloc, **(headers or {})}.items():
        connection.putheader(name, value)
    connection.endheaders()
    reply = connection.getresponse()
    return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read().decode()


# What it refuses


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "", "localhost"]
)
def test_a_name_of_somebody_else_is_refused(page: str, host: str) -> None:
    """DNS rebinding: the page of a site that has pointed its own name to loopback."""
    for path in ("/", "/credential/shop/service-00001", "/page.css", "/nothing"):
        status, headers, text = ask(page, path, headers={"Host": host})
        assert (status, "service" in text) == (421, False)
        assert headers["cache-control"] == "no-store"


def test_its_own_names_are_not(page: str) -> None:
    port = urlsplit(page).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert ask(page, headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_another_origin_is_refused(page: str, headers: Mapping[str, str]) -> None:
    status, told, text = ask(page, headers=headers)
    assert (status, "service" in text) == (403, False)
    assert not [name for name in told if name.startswith("access-control")]


def test_its_own_origin_is_not(page: str) -> None:
    own = {"Origin": page.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert ask(page, headers=own)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
@pytest.mark.parametrize("path", ["/", "/credential/shop/service-00001", "/live.js", "/rotate"])
def test_nothing_but_reading_is_allowed(page: str, method: str, path: str) -> None:
    status, headers, _ = ask(page, path, method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_every_answer_forbids_caching_frames_and_foreign_content(page: str) -> None:
    for path in ("/", "/credential/shop/service-00001", "/page.css", "/live.js", "/icon.svg", "/nothing"):
        _, headers, _ = ask(page, path)
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"https?:|\*|data:", policy)
        assert "set-cookie" not in headers


def test_the_page_has_no_inline_script_and_no_address_of_another_place(page: str) -> None:
    for path in ("/", "/credential/shop/service-00001"):
        text = ask(page, path)[2]
        assert re.findall(r"<script[^>]*>", text) == ['<script src="/live.js" defer>']
        assert " style=" not in text
        assert not re.search(r" on[a-z]+=", text)
        assert {
            a for a in re.findall(r'(?:href|src|action)="([^"]*)"', text) if not a.startswith(("/", "#"))
        } == set()


# What it shows


def test_search_and_pages_are_the_servers(page: str) -> None:
    whole = ask(page)[2]
    assert "60 credentials, page 1 of 2" in whole
    second = ask(page, "/?q=&page=2")[2]
    assert "page 2 of 2" in second
    assert 'rel="next"' not in second
    assert "page 2 of 2" in ask(page, "/?page=9999")[2]
    one = ask(page, "/?q=service-00029")[2]
    assert "DatabaseUnreachableError" in one
    assert "1 credential</p>" in one
    assert "No credential has" in ask(page, "/?q=%3Cscript%3E")[2]
    assert "<script>" not in ask(page, "/?q=%3Cscript%3E")[2]
    for odd in ("page=0", "page=x", "page=999999999999", "q=" + "a" * 3000):
        assert ask(page, f"/?{odd}")[0] == 200


def test_an_id_that_is_not_in_the_plan_is_not_found(page: str) -> None:
    for path in ("/credential/nobody", "/credential/", "/credential/%00", "/credential/..%2f..%2fetc/passwd"):
        assert ask(page, path)[0] == 404


@pytest.mark.parametrize(
    ("number", "expected", "kinds"),
    [
        (0, ("good", "healthy"), []),
        (1, ("good", "healthy"), []),
        (7, ("warn", "degraded"), [Kind.OVERDUE]),
        (11, ("bad", "down"), [Kind.REFUSED]),
        (13, ("warn", "degraded"), [Kind.PAUSED]),
        (29, ("warn", "degraded"), [Kind.FAILED]),
        (37, ("warn", "degraded"), [Kind.UNREACHABLE]),
    ],
)
def test_a_row_shows_the_verdict_of_the_state(
    page: str, number: int, expected: tuple[str, str], kinds: list[Kind]
) -> None:
    of = f"shop/service-{number:05d}"
    seen = look(60).seen[of]
    assert mark(seen) == expected
    assert [reason.kind for reason in seen.state.reasons] == kinds
    text = html.unescape(ask(page, f"/credential/{of}")[2])
    assert f'<span class="chip {expected[0]}">' in text
    for reason in seen.state.reasons:
        assert f"<span>{reason.text}</span> <code>{reason.next}</code>" in text


def test_the_headline_counts_the_gravest_verdict() -> None:
    whole = look(60)
    assert headline(whole) == ("bad", "1 of 60 credentials is down")
    assert next(figures(whole, NOW))[1:3] == ("54 of 60", "5 degraded, 1 down")
    paused = FleetSnapshot(at=NOW, seen={"a": whole.seen["shop/service-00013"]})
    assert headline(paused) == ("warn", "1 of 1 credential is degraded")


def test_what_several_have_alike_is_told_once_and_the_gravest_first() -> None:
    told = shared(look(200))
    kinds = [reason.kind for reason, _ in told]
    assert kinds == sorted(kinds, key=list(Kind).index)
    late = next(ids for reason, ids in told if reason.kind is Kind.OVERDUE)
    assert late == [f"shop/service-{number:05d}" for number in (7, 68, 129, 190)]


def test_a_log_that_the_other_cloud_does_not_confirm_is_told() -> None:
    reason = Reason(
        kind=Kind.UNCONFIRMED, text="No digest is confirmed.", next="lockstep audit verify", place="oci"
    )
    healthy = replace(look(1), evidence=(reason,))
    assert headline(healthy)[0] == "warn"
    made_up = MadeUp(1)
    made_up.look_ = healthy
    with shown(made_up) as url:
        text = ask(url)[2]
    assert (
        "<b>log not confirmed</b><span>No digest is confirmed.</span> <code>lockstep audit verify</code>"
        in text
    )


def test_what_was_not_read_is_not_called_healthy() -> None:
    of = look(1).seen["shop/service-00000"]
    unread = FleetSnapshot(at=NOW, seen={"a": snapshot_of(of.record, of.credential, {}, [])})
    assert mark(unread.seen["a"]) == ("calm", UNREAD)
    assert headline(unread)[0] == "calm"


def test_what_the_table_alone_says_is_a_reason_too() -> None:
    """A record that cannot be read, and a table that knows nobody: the state of one credential sees neither."""
    whole = list(look(FEW + 1).seen.values())
    [first, second, *_] = whole
    plan: Any = SimpleNamespace(credentials=[one.credential for one in whole], runners=make_plan().runners)
    records = {one.record.credential_id: one.record for one in whole}
    del records[first.record.credential_id]
    unreadable = Table(records=records, unreadable={first.credential.id: "NewerFormatError"})
    for table, expected in (
        (unreadable, [[Kind.UNREADABLE], []]),
        (Table(records={}, unreadable={}), [[Kind.OTHER_PLAN, Kind.OVERDUE]] * 2),
    ):
        clouds: Any = SimpleNamespace(clock=StillClock(), lock_table=lambda table=table: table)
        seen = Looker(plan, clouds, Calls(clouds.clock.monotonic)).look((), records_only=True).seen
        found = [[reason.kind for reason in seen[one.credential.id].state.reasons] for one in (first, second)]
        assert found == expected


def test_an_overlap_is_drawn_only_where_the_last_run_has_proven_it() -> None:
    seen = look(1).seen["shop/service-00000"]
    bar, revoked = bar_of(seen, NOW), replace(seen.record, valid=frozenset({40}))
    assert bar is not None
    assert bar.overlap > 0
    for record, runs in (
        (revoked, seen.runs),
        (seen.record, []),
        (replace(seen.record, revoke_through=39), seen.runs),
    ):
        other = snapshot_of(record, seen.credential, seen.state.look.answers, runs)
        drawn = bar_of(other, NOW)
        assert drawn is not None
        assert drawn.overlap == 0
        assert "proven" not in drawn.title


@pytest.mark.parametrize(
    ("text", "found"), [("service-00029", 1), ("DOWN", 1), ("degraded", 5), ("overdue", 1), ("nothing", 0)]
)
def test_rows_are_found_by_id_verdict_and_reason(text: str, found: int) -> None:
    assert rows(look(60), Asked(q=text))[1] == found


def test_the_gravest_rows_come_first() -> None:
    shown_first, *_ = rows(look(60), Asked())
    assert [mark(one)[1] for one in shown_first][:7] == ["down", *["degraded"] * 5, "healthy"]


def test_secrets_have_their_own_names(page: str) -> None:
    names = look(1).seen["shop/service-00000"].credential.secret_names
    text = ask(page, "/credential/shop/service-00000")[2]
    assert f'<th scope="col">{names.app_user}</th><th scope="col">{names.connection_blob}</th>' in text


# How often it looks


def test_an_outage_is_told_and_what_was_known_stays() -> None:
    made_up = MadeUp(3)
    with shown(made_up, is_live=True) as url:
        assert "The clouds were not read" not in ask(url)[2]
        made_up.fails = LockTableUnreachableError(code="Timeout")
        text = ""
        for _ in range(50):
            text = ask(url)[2]
            if "The clouds were not read" in text:
                break
        assert "LockTableUnreachableError" in text
        assert "What is shown is" in text
        assert "shop/service-00001" in text


# The command


def test_a_port_that_is_taken_is_told_with_the_next_command(tmp_path: Path) -> None:
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(PLAN))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        words = ["serve", "--plan", str(file), "--port", str(other.getsockname()[1])]
        told = CliRunner().invoke(app, words)
    assert told.exit_code == 2
    assert "lockstep serve --port 0" in told.stderr
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [("--host", "0.0.0.0"), ("--port", "70000"), ("--port", "x")])  # noqa: S104 - refused
def test_no_address_but_loopback_is_taken(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ["serve", *words]).exit_code == 2


def test_the_names_of_an_address_are_as_browsers_write_them() -> None:
    with socket.socket() as listener:
        assert Address(listener, "::1", 8020).names == {"[::1]:8020", "localhost:8020"}
        assert Address(listener, "127.0.0.1", 80).names == {
            *("127.0.0.1", "127.0.0.1:80", "localhost", "localhost:80")
        }
        assert Address(listener, "::1", 8020).url == "http://[::1]:8020/"
