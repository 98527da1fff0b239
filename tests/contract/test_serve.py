"""The live page, without a cloud: what it refuses over HTTP, and what it makes of a look at a fleet."""

import html
import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.operate.page.fleet import UNREAD, bar_of, figures, headline, mark, rows, shared
from lockstep.operate.page.snapshot import WATCHED_SECONDS, FleetSnapshot
from lockstep.operate.verdict import Kind, Reason
from lockstep.protocol.errors import LockTableUnreachableError
from lockstep.protocol.model import Engine
from sandbox import plans
from tests.support.fleet import MadeUp, look, shown
from tests.support.memory import FakeClock
from tests.support.programs import until
from tests.unit.test_verdict import NOW

OF_ONE = "/credential/shop/service-00001"
OWN = "127.0.0.1:{port}"


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with shown(MadeUp(60)) as url:
        yield url


def ask(
    url: str, path: str = "/", *, method: str = "GET", **headers: str
) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and text of an answer; of the headers only those that are given are sent."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=120)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": at.netloc, **headers}.items():
        connection.putheader(name.replace("_", "-"), value.format(port=at.port))
    connection.endheaders()
    reply = connection.getresponse()
    return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read().decode()


GUARDS: list[tuple[int, dict[str, str]]] = [
    # DNS rebinding: the page of a site that has pointed its own name to loopback.
    *((421, {"Host": host}) for host in ("evil.example:80", "127.0.0.1:1", "localhost")),
    *((200, {"Host": host}) for host in (OWN, "LOCALHOST:{port}")),
    *((403, {"Origin": origin}) for origin in ("null", "http://127.0.0.1:1")),
    (403, {"Sec_Fetch_Site": "cross-site"}),
    (200, {"Origin": f"http://{OWN}", "Sec_Fetch_Site": "same-origin"}),
]


@pytest.mark.parametrize(("expected", "headers"), GUARDS, ids=str)
def test_only_its_own_names_and_origin_are_answered(
    page: str, expected: int, headers: dict[str, str]
) -> None:
    for path in ("/", OF_ONE, *(("/page.css", "/nothing") if expected == 421 else ())):
        status, told, text = ask(page, path, **headers)
        assert (status, "service" in text) == (expected, expected == 200)
        assert told["cache-control"] == "no-store"
        assert not [name for name in told if name.startswith("access-control")]


def test_nothing_but_reading_is_allowed(page: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
        for path in ("/", OF_ONE, "/rotate"):
            status, headers, _ = ask(page, path, method=method)
            assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_every_answer_forbids_caching_frames_and_foreign_content(page: str) -> None:
    for path in ("/", OF_ONE, "/page.css", "/live.js", "/icon.svg", "/nothing"):
        _, headers, text = ask(page, path)
        kept = ("cache-control", "x-frame-options", "x-content-type-options", "set-cookie")
        assert [headers.get(name) for name in kept] == ["no-store", "DENY", "nosniff", None]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert not re.search(r"https?:|\*|data:|unsafe", policy)
        if path in ("/", OF_ONE):
            assert re.findall(r"<script[^>]*>", text) == ['<script src="/live.js" defer>']
            assert not re.search(r" on[a-z]+=| style=", text)
            assert not re.search(r'(href|src|action)="[^/#]', text)


def test_the_search_is_the_servers(page: str) -> None:
    assert "60 credentials; the gravest 50 are shown" in ask(page)[2]
    one = ask(page, "/?q=service-00029")[2]
    assert ("DatabaseUnreachableError" in one, "1 credential</p>" in one) == (True, True)
    script = ask(page, "/?q=%3Cscript%3E")[2]
    assert ("No credential has" in script, "<script>" in script) == (True, False)
    assert ask(page, "/?q=" + "a" * 3000)[0] == 200
    for unknown in ("nobody", "", "%00", "..%2f..%2fetc/passwd"):
        assert ask(page, f"/credential/{unknown}")[0] == 404


def test_a_reason_of_a_credential_or_of_a_log_is_told_with_what_helps(page: str) -> None:
    for number, grave in ((1, "good"), (7, "warn"), (11, "bad"), (29, "warn")):
        of = f"shop/service-{number:05d}"
        text = html.unescape(ask(page, f"/credential/{of}")[2])
        assert f'<span class="chip {grave}">' in text
        reasons = look(60).seen[of].reasons
        assert len(reasons) == (grave != "good")
        for reason in reasons:
            assert f"<span>{reason.text}</span> <code>{reason.next}</code>" in text
    unconfirmed = Reason(
        kind=Kind.UNCONFIRMED, text="No digest is.", next="lockstep audit verify", place="oci"
    )
    made_up = MadeUp(1)
    made_up.look_ = replace(look(1), evidence=(unconfirmed,))
    assert headline(made_up.look_)[0] == "warn"
    with shown(made_up) as url:
        text = ask(url)[2]
    assert "<b>log not confirmed</b><span>No digest is.</span> <code>lockstep audit verify</code>" in text


def test_an_outage_is_told_and_what_was_known_stays() -> None:
    made_up, clock = MadeUp(3), FakeClock(NOW)
    with shown(made_up, clock) as url:
        assert "The clouds were not read" not in ask(url)[2]
        made_up.fails = LockTableUnreachableError(code="Timeout")
        clock.sleep(WATCHED_SECONDS + 1)
        text = until(lambda: t if "The clouds were not read" in (t := ask(url)[2]) else "")
    for told in ("LockTableUnreachableError", "What is shown is", "shop/service-00001"):
        assert told in text


def test_a_port_that_is_taken_is_told_with_the_next_command(tmp_path: Path) -> None:
    file = tmp_path / "lockstep.yaml"
    orders = plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")
    file.write_text(json.dumps(plans.plan_document([orders], [plans.credential("a", "orders")])))
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = ["serve", "--plan", str(file), "--port", str(other.getsockname()[1])]
        told = CliRunner().invoke(app, words)
    assert told.exit_code == 2
    assert "lockstep serve --port 0" in told.stderr
    assert len(told.stderr.splitlines()) == 1


# What the page makes of a look


def test_the_headline_counts_the_gravest_verdict() -> None:
    whole = look(60)
    assert headline(whole) == ("bad", "1 of 60 credentials is down")
    assert next(figures(whole, NOW))[1:3] == ("55 of 60", "4 degraded, 1 down")
    paused = FleetSnapshot(at=NOW, seen={"a": whole.seen["shop/service-00013"]})
    assert headline(paused) == ("warn", "1 of 1 credential is degraded")
    # What was not read is not called healthy.
    of = whole.seen["shop/service-00000"]
    unread = FleetSnapshot(at=NOW, seen={"a": replace(of, read_at=None)})
    assert mark(unread.seen["a"]) == ("calm", UNREAD)
    assert headline(unread)[0] == "calm"


def test_what_several_have_alike_is_told_once_and_rows_are_found_the_gravest_first() -> None:
    told = shared(look(200))
    kinds = [reason.kind for reason, _ in told]
    assert kinds == sorted(kinds, key=list(Kind).index)
    late = next(ids for reason, ids in told if reason.kind is Kind.OVERDUE)
    assert late == [f"shop/service-{number:05d}" for number in (7, 68, 129, 190)]
    for text, found in {"service-00029": 1, "DOWN": 1, "degraded": 4, "overdue": 1, "nothing": 0}.items():
        assert len(rows(look(60), text)) == found, text
    assert [mark(one)[1] for one in rows(look(60), "")][:6] == ["down", *["degraded"] * 4, "healthy"]


def test_an_overlap_is_drawn_only_where_the_last_run_has_proven_it() -> None:
    seen = look(1).seen["shop/service-00000"]
    for record, runs, is_drawn in (
        (seen.record, seen.runs, True),
        (replace(seen.record, valid=frozenset({7})), seen.runs, False),
        (seen.record, [], False),
        (replace(seen.record, revoke_through=6), seen.runs, False),
    ):
        bar = bar_of(replace(seen, record=record, runs=runs), NOW)
        assert bar
        assert (bar.overlap > 0, "proven" in bar.title) == (is_drawn, is_drawn)
