"""The page of the audit report in headless Chromium, on a phone and on a desk, in light and in dark, and printed."""

import re
from pathlib import Path

import pytest

from lockstep.operate.report.build import page
from tests.browser.conftest import NEEDS_CHROMIUM, assert_fits
from tests.support.chromium import Page
from tests.unit.test_audit_report import hostile, report_of, told

pytestmark = NEEDS_CHROMIUM
WIDTHS = (400, 1280)
SCHEMES = {"light": (255, 255, 255), "dark": (18, 23, 29)}
"""The colour of the paper."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(report_of(told())), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_loads_nothing_and_has_no_fault(shown: Page, file: Path, width: int, scheme: str) -> None:
    """WCAG 2.2: 4.5 for texts."""
    shown.open(file, width=width, scheme=scheme)
    assert_fits(shown, width, file.as_uri())
    assert len(shown.seen.requests) == 1
    paper = shown.ask("getComputedStyle(document.body).backgroundColor")
    assert tuple(map(int, re.findall(r"\d+", paper))) == SCHEMES[scheme]
    texts = [(f"--{name}", "--paper") for name in ("ink", "soft", "good", "bad", "warn")]
    chips = [(f"--{name}", f"--{name}-paper") for name in ("good", "bad", "warn")]
    assert shown.contrast(*texts, *chips) >= 4.5


def test_the_page_prints(shown: Page, file: Path) -> None:
    shown.open(file, width=1280, scheme="dark")
    shown.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert shown.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert shown.pdf().startswith(b"%PDF-")
    finally:
        shown.call("Emulation.setEmulatedMedia", media="")


def test_hostile_entries_do_nothing(shown: Page, tmp_path: Path) -> None:
    script = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>" + "\u202e" + "M" * 5000
    file = tmp_path / "hostile.html"
    file.write_text(page(hostile(script)), encoding="utf-8")
    for width in WIDTHS:
        shown.open(file, width=width, scheme="light")
        assert_fits(shown, width, file.as_uri())
        assert "taken" not in shown.ask("document.title")


def test_the_policy_stops_a_script_that_got_in_all_the_same(shown: Page, tmp_path: Path) -> None:
    """The page escapes everything; this is the second wall."""
    file = tmp_path / "holed.html"
    holed = "<script>document.title = 'taken'</script><img src='https://127.0.0.1:9/x.png'></main>"
    file.write_text(page(report_of(told())).replace("</main>", holed), encoding="utf-8")
    shown.open(file, width=1280, scheme="light")
    assert "taken" not in shown.ask("document.title")
    assert len([fault for fault in shown.seen.faults if "Content Security Policy" in fault]) == 2
