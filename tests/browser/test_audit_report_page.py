"""The page of the audit report in headless Chromium, on a phone and on a desk, in light and in dark, and printed."""

import re
import struct
import zlib
from pathlib import Path

import pytest

from lockstep.audit.report.page import page
from tests.browser.conftest import NEEDS_CHROMIUM
from tests.support.chromium import Page
from tests.unit.test_audit_report import report_of, told
from tests.unit.test_audit_report_forms import failure, made, milliseconds

pytestmark = NEEDS_CHROMIUM
WIDTHS = (400, 1280)
SCHEMES = {"light": (255, 255, 255), "dark": (18, 23, 29)}
"""The colour of the paper."""
BLUE, ORANGE = (11, 98, 168), (217, 115, 13)
"""The light colours of AWS and OCI."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(report_of(told())), encoding="utf-8")
    return file


def pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of an 8-bit RGB or RGBA picture, as RGB."""
    at, data, width, height, depth = 8, b"", 0, 0, 3
    while at < len(png):
        (size,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, _, colours = struct.unpack(">IIBB", body[:10])
            depth = {2: 3, 6: 4}[colours]
        elif kind == b"IDAT":
            data += body
        at += 12 + size
    raw, stride, rows = zlib.decompress(data), width * depth, []
    before = bytearray(stride)
    for number in range(height):
        start = number * (stride + 1)
        row = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), before, depth)
        rows.append(bytes(row) if depth == 3 else bytes(b for i, b in enumerate(row) if i % 4 != 3))
        before = row
    return width, height, rows


def _unfiltered(kind: int, row: bytearray, above: bytearray, depth: int) -> bytearray:
    """A row without its filter (https://www.w3.org/TR/png-3/#9Filters)."""
    for i in range(len(row)):
        left, up = (row[i - depth] if i >= depth else 0), above[i]
        corner = above[i - depth] if i >= depth else 0
        match kind:
            case 1:
                guess = left
            case 2:
                guess = up
            case 3:
                guess = (left + up) // 2
            case 4:
                guess = min((left, up, corner), key=lambda p, e=left + up - corner: abs(e - p))  # type: ignore[misc]  # bound now
            case _:
                guess = 0
        row[i] = (row[i] + guess) & 255
    return row


def count(rows: list[bytes], colour: tuple[int, int, int]) -> int:
    wanted = bytes(colour)
    return sum(row[i : i + 3] == wanted for row in rows for i in range(0, len(row), 3))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_loads_nothing_has_no_fault_and_fits(
    shown: Page, file: Path, width: int, scheme: str
) -> None:
    shown.open(file, width=width, scheme=scheme)
    assert shown.seen.faults == []
    assert shown.seen.requests == [file.as_uri()]
    assert shown.ask("document.documentElement.scrollWidth") == width
    too_wide = """[...document.querySelectorAll("body *")].filter(e => !e.closest("thead, svg")
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert shown.ask(too_wide) == []
    paper = shown.ask("getComputedStyle(document.body).backgroundColor")
    assert tuple(map(int, re.findall(r"\d+", paper))) == SCHEMES[scheme]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_text_can_be_read(shown: Page, file: Path, width: int) -> None:
    """No text is smaller than 11 pixels, and none of a chart covers another."""
    shown.open(file, width=width, scheme="light")
    smallest = """Math.min(...[...document.querySelectorAll("body *")].filter(e => e.checkVisibility()
        && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
    assert shown.ask(smallest) >= 11
    covering = """[...document.querySelectorAll(".plot svg")].flatMap(svg => {
        const boxes = [...svg.querySelectorAll(":scope > text")].filter(t => t.checkVisibility())
            .map(t => [t.textContent, t.getBoundingClientRect()]);
        return boxes.flatMap(([a, p], i) => boxes.slice(i + 1)
            .filter(([, q]) => p.left < q.right && q.left < p.right && p.top + 3 < q.bottom && q.top + 3 < p.bottom)
            .map(([b]) => `${a} and ${b}`));
    })"""
    assert shown.ask(covering) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_have_contrast(shown: Page, file: Path, scheme: str) -> None:
    """WCAG 2.2: 4.5 for texts, 3 for the colours of charts."""
    shown.open(file, width=1280, scheme=scheme)
    texts = [(f"--{name}", "--paper") for name in ("ink", "soft", "good", "bad", "warn", "over")]
    chips = [(f"--{name}", f"--{name}-paper") for name in ("good", "bad", "warn")]
    charts = [(f"--{name}", "--paper") for name in ("aws", "oci", "over")]
    assert shown.contrast(*texts, *chips) >= 4.5
    assert shown.contrast(*charts) >= 3


def test_the_picture_shows_the_charts(shown: Page, file: Path) -> None:
    shown.open(file, width=1280, scheme="light")
    top = shown.ask("document.querySelector('figure .plot').getBoundingClientRect().top + scrollY")
    width, height, rows = pixels(shown.screenshot(top=top, height=150))
    assert (width, height) == (1280, 150)
    assert count(rows, BLUE) > 20_000
    assert count(rows, ORANGE) > 300
    assert count(rows, SCHEMES["light"]) > 20_000


def test_the_title_the_verdict_and_the_tables_are_there(shown: Page, file: Path) -> None:
    shown.open(file, width=1280, scheme="light")
    assert shown.ask("document.querySelector('.banner strong').innerText") == "Verified"
    assert shown.ask("document.querySelectorAll('section.credential figure').length") == 4
    assert shown.ask("document.querySelectorAll('details').length") == 10
    assert shown.ask("document.querySelectorAll('details:not([open])').length") >= 3
    visible = shown.ask("document.body.innerText")
    assert "StoreUnreachableError" in visible
    assert "Each failed run" in visible
    assert "aws-0" not in visible.partition("Each failed run")[2].partition("Who was behind")[0]


def test_what_is_folded_is_printed(shown: Page, file: Path) -> None:
    shown.open(file, width=1280, scheme="dark")
    shown.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert shown.ask(
            "[...document.querySelectorAll('details:not(.long) > div')].every(e => e.checkVisibility()"
            " && e.getBoundingClientRect().height > 10)"
        )
        assert shown.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert shown.pdf().startswith(b"%PDF-")
    finally:
        shown.call("Emulation.setEmulatedMedia", media="")


def test_hostile_entries_do_nothing(shown: Page, tmp_path: Path) -> None:
    script = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>" + "\u202e" + "M" * 5000
    report = made(
        failure(milliseconds(399), script, unmapped={"lockstep": {"trigger": script, "order": script}})
    )
    file = tmp_path / "hostile.html"
    file.write_text(page(report), encoding="utf-8")
    for width in WIDTHS:
        shown.open(file, width=width, scheme="light")
        assert shown.seen.faults == []
        assert shown.seen.requests == [file.as_uri()]
        assert "taken" not in shown.ask("document.title")
        assert shown.ask("document.documentElement.scrollWidth") == width


def test_the_policy_stops_a_script_that_got_in_all_the_same(shown: Page, tmp_path: Path) -> None:
    """The page escapes everything; this is the second wall."""
    file = tmp_path / "holed.html"
    holed = "<script>document.title = 'taken'</script><img src='https://127.0.0.1:9/x.png'></main>"
    file.write_text(page(report_of(told())).replace("</main>", holed), encoding="utf-8")
    shown.open(file, width=1280, scheme="light")
    assert "taken" not in shown.ask("document.title")
    assert len([fault for fault in shown.seen.faults if "Content Security Policy" in fault]) == 2
