"""The live page and that of the audit report in headless Chromium: on a phone and on a desk, in light and in dark."""

import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lockstep.operate.report.build import page as page_of
from sandbox import plans
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.estate import running_estate
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
    assert shown.faults == []
    assert [url for url in shown.requests if not url.startswith(site)] == []
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
    assert len(shown.requests) == 1
    for path in PATHS:
        shown.open(fleet + path, width=width, scheme=scheme)
        assert_fits(shown, width, fleet)
        steps = shown.ask("[...document.querySelectorAll('.run-now .over span')].map(e => e.innerText)")
        assert path or steps == ["took the lock", "claimed generation 8"]
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
    assert len([fault for fault in shown.faults if "Content Security Policy" in fault]) == 2


def test_each_rotation_is_seen_and_no_password_ever(shown: Page, tmp_path: Path) -> None:
    require(MariaDbServer)
    tmp_path.chmod(0o711)
    servers = {"orders": MariaDbServer(authority=CertificateAuthority(tmp_path))}
    secrets, answers = set[str](), list[str]()

    def shows(text: str) -> bool:
        return text in shown.ask("document.body.innerText")

    with (
        running_estate([plans.credential(CREDENTIAL, "orders")], servers, folder=tmp_path) as estate,
        running_page(tmp_path, estate.plan_file) as page,
    ):
        secrets |= {secret for secret in estate.confidential if len(secret) > 8}
        shown.open(f"{page.url}credential/{CREDENTIAL}", width=390, scheme="dark")
        shown.ask("window.stays = true")
        for generation in (1, 2, 3):
            estate.outside.expire_schedule(CREDENTIAL)
            assert estate.rotate(CREDENTIAL).status == "SUCCEEDED"
            until(partial(shows, f"generation {generation}, rotated in"))
            login = estate.stored_login(estate.plan.credentials[0])
            assert login
            secrets.add(login.password.reveal())
            for path in ("", "?q=app", f"credential/{CREDENTIAL}"):
                with urllib.request.urlopen(page.url + path) as reply:  # noqa: S310 - our own page
                    answers.append(reply.read().decode())
        assert shown.ask("window.stays") is True  # It was never loaded anew.
        assert shown.ask("document.querySelectorAll('.runs li').length") == 3
        assert_fits(shown, 390, page.url)
    assert len(secrets) >= 4
    told = [page.log.read_text(), *answers]
    assert [secret for secret in secrets if any(secret in text for text in told)] == []
