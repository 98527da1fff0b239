"""The live page and that of the audit report in headless Chromium: on a phone and on a desk, in light and in dark."""

import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.operate.report.build import page as page_of
from sandbox import plans
from sandbox.acts import before_step
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.estate import Settings, running_estate
from sandbox.fn import running_function
from sandbox.page import running_page
from tests.support.chromium import Page, browser, chromium
from tests.support.fleet import MadeUp
from tests.support.fleet import shown as served
from tests.support.programs import until
from tests.support.servers import require
from tests.unit.test_audit_report import hostile, report_of, told

PROGRAM = chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here; `make browser` installs one")
WIDTHS = (390, 1280)
PATHS = ("", *(f"credential/shop/service-000{n}" for n in ("01", "11", "29", "53")))
BOUND_SECONDS = 90.0
CREDENTIAL = "multi-cloud/app_user"


@pytest.fixture(scope="module")
def shown() -> Iterator[Page]:
    assert PROGRAM is not None
    with browser(PROGRAM) as page:
        yield page


@pytest.fixture(scope="module")
def fleet() -> Iterator[str]:
    with served(MadeUp(60)) as url:
        yield url


def assert_fits(shown: Page, width: int, site: str) -> None:
    """The page that is open asks nobody else, has no fault, and nothing of it is wider than the window."""
    assert shown.seen.faults == []
    assert [url for url in shown.seen.requests if not url.startswith(site)] == []
    assert shown.ask("document.documentElement.scrollWidth") == width
    too_wide = """[...document.querySelectorAll("body *")].filter(e => !e.closest("thead, svg, .skip")
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert shown.ask(too_wide) == []


LOOKS = [(width, scheme) for width in WIDTHS for scheme in ("light", "dark")]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_both_pages_ask_nobody_else_have_no_fault_and_fit(
    shown: Page, fleet: str, tmp_path: Path, width: int, scheme: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page_of(report_of(told())), encoding="utf-8")
    shown.open(file, width=width, scheme=scheme)
    assert_fits(shown, width, file.as_uri())
    assert len(shown.seen.requests) == 1
    for path in PATHS:
        shown.open(fleet + path, width=width, scheme=scheme)
        assert_fits(shown, width, fleet)
    shown.open("about:blank", width=width, scheme=scheme)  # The live page goes on asking.


def test_hostile_entries_do_nothing(shown: Page, tmp_path: Path) -> None:
    script = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>" + "\u202e" + "M" * 5000
    file = tmp_path / "hostile.html"
    file.write_text(page_of(hostile(script)), encoding="utf-8")
    for width in WIDTHS:
        shown.open(file, width=width, scheme="light")
        assert_fits(shown, width, file.as_uri())
        assert "taken" not in shown.ask("document.title")
    # The page escapes everything; its policy is the second wall.
    holed = "<script>document.title = 'taken'</script><img src='https://127.0.0.1:9/x.png'></main>"
    file.write_text(page_of(report_of(told())).replace("</main>", holed), encoding="utf-8")
    shown.open(file, width=1280, scheme="light")
    assert "taken" not in shown.ask("document.title")
    assert len([fault for fault in shown.seen.faults if "Content Security Policy" in fault]) == 2


def test_a_rotation_is_seen_and_no_password_ever(shown: Page, tmp_path: Path) -> None:
    require(MariaDbServer)
    tmp_path.chmod(0o711)
    servers = {"orders": MariaDbServer(authority=CertificateAuthority(tmp_path))}
    settings = Settings(audit_tier="Standard")  # So that entries in OCI can be read at once.
    secrets, answers = list[str](), list[str]()

    def keep() -> None:
        login = estate.stored_login(estate.plan.credentials[0])
        secrets.extend([login.password.reveal()] if login else [])
        for path in ("", "?q=app", f"credential/{CREDENTIAL}"):
            with urllib.request.urlopen(page.url + path) as reply:  # noqa: S310 - our own page
                answers.append(reply.read().decode())

    credentials = [plans.credential(CREDENTIAL, "orders")]
    with (
        running_estate(credentials, servers, folder=tmp_path, settings=settings) as estate,
        running_page(tmp_path, estate.plan_file) as page,
        running_function(estate.function_environment) as function,
    ):
        secrets += estate.confidential
        shown.open(page.url, width=1280, scheme="light")
        shown.ask("window.stays = true")
        keep()
        assert estate.rotate(CREDENTIAL).status == "SUCCEEDED"
        until(lambda: "healthy" in shown.ask("document.querySelector('table.fleet .chip').innerText"))
        keep()
        estate.outside.expire_schedule(CREDENTIAL)
        goes_on = threading.Event()
        with before_step(estate, "update_secrets", lambda: goes_on.wait(BOUND_SECONDS)):
            run = threading.Thread(target=estate.rotate, args=(CREDENTIAL,))
            run.start()
            now = "document.querySelector('.run-now .now')?.innerText ?? ''"
            until(lambda: "the databases accept it" in shown.ask(now))
            done = shown.ask("[...document.querySelectorAll('.run-now .over span')].map(e => e.innerText)")
            assert done == ["took the lock", "claimed generation 2"]
            assert "1 run under way" in shown.ask("document.body.innerText")
            keep()
            goes_on.set()
            run.join()
        generation = "document.querySelector('table.fleet td[data-name=Generation]').innerText"
        until(lambda: not shown.ask(now))
        until(lambda: shown.ask(generation) == "2")
        estate.outside.expire_schedule(CREDENTIAL)
        function.call({"credential_id": CREDENTIAL})
        until(lambda: shown.ask(generation) == "3")
        keep()
        assert shown.ask("window.stays") is True  # It was never loaded anew.
        shown.open(f"{page.url}credential/{CREDENTIAL}", width=390, scheme="dark")
        until(lambda: "generation 3, rotated in" in shown.ask("document.body.innerText"))
        assert shown.ask("document.querySelectorAll('.runs li').length") == 3
        assert shown.seen.faults == []
        assert [url for url in shown.seen.requests if not url.startswith(page.url)] == []
    assert len({secret for secret in secrets if len(secret) > 8}) >= 4
    told = [page.log.read_text(), *answers]
    assert [secret for secret in secrets if any(secret in text for text in told)] == []
