"""The live page in headless Chromium: on a phone and on a desk, in light and in dark, and while a rotation runs."""

import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import plans
from sandbox.acts import before_step
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import running_function
from sandbox.page import running_page
from tests.browser.conftest import NEEDS_CHROMIUM, assert_fits
from tests.support.chromium import Page
from tests.support.fleet import MadeUp
from tests.support.fleet import shown as served
from tests.support.servers import require
from tests.support.settling import until

pytestmark = NEEDS_CHROMIUM
WIDTHS = (390, 1280)
PATHS = ("", *(f"credential/shop/service-000{n}" for n in ("01", "11", "29", "53")))
BOUND_SECONDS = 90.0
CREDENTIAL = "multi-cloud/app_user"


@pytest.fixture(scope="module")
def fleet() -> Iterator[str]:
    with served(MadeUp(60)) as url:
        yield url


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_asks_nobody_else_and_has_no_fault(shown: Page, fleet: str, width: int, scheme: str) -> None:
    smallest = """Math.min(...[...document.querySelectorAll("body *")].filter(e => e.checkVisibility()
        && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
    for path in PATHS:
        shown.open(fleet + path, width=width, scheme=scheme)
        assert_fits(shown, width, fleet)
        assert shown.ask(smallest) >= 11


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(shown: Page, fleet: str, scheme: str) -> None:
    """WCAG 2.2: 4.5 for texts, 3 for what carries a meaning in charts."""
    shown.open(fleet, width=1280, scheme=scheme)
    papers = [(f"--{name}", f"--{name}-paper") for name in ("calm", "busy", "good", "bad", "warn")]
    texts = [("--ink", "--busy-paper"), ("--soft", "--busy-paper"), ("--ink", "--warn-paper")]
    charts = [(name, "--paper") for name in ("--fill", "--fill-2", "--late")]
    cells = [(name, "--empty") for name in ("--fill", "--late")]
    assert shown.contrast(*papers, *texts) >= 4.5
    assert shown.contrast(*charts, *cells) >= 3


# While a rotation runs


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    require(MariaDbServer)
    servers = {"orders": MariaDbServer(authority=CertificateAuthority(tmp_path_factory.mktemp("ca")))}
    folder = tmp_path_factory.mktemp("estate")
    folder.chmod(0o711)
    settings = Settings(audit_tier="Standard")  # So that entries in OCI can be read at once.
    credentials = [plans.credential(CREDENTIAL, "orders")]
    with running_estate(credentials, servers, folder=folder, settings=settings) as running:
        yield running


def test_a_rotation_is_seen_and_no_password_ever(shown: Page, estate: Estate, tmp_path: Path) -> None:
    [credential] = estate.plan.credentials
    secrets, answers = list(estate.confidential), list[str]()

    def keep() -> None:
        login = estate.stored_login(credential)
        secrets.extend([login.password.reveal()] if login else [])
        for path in ("", "?q=app", f"credential/{CREDENTIAL}"):
            with urllib.request.urlopen(page.url + path) as reply:  # noqa: S310 - our own page
                answers.append(reply.read().decode())

    with (
        running_page(tmp_path, estate.plan_file) as page,
        running_function(estate.function_environment) as function,
    ):
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
