"""The browser in which the pages are looked at."""

from collections.abc import Iterator

import pytest

from tests.support.chromium import Page, browser, chromium

PROGRAM = chromium()
NEEDS_CHROMIUM = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here; `make browser` installs one")


@pytest.fixture(scope="module")
def shown() -> Iterator[Page]:
    assert PROGRAM is not None
    with browser(PROGRAM) as page:
        yield page


def assert_fits(shown: Page, width: int, site: str) -> None:
    """The page that is open asks nobody else, has no fault, and nothing of it is wider than the window."""
    assert shown.seen.faults == []
    assert [url for url in shown.seen.requests if not url.startswith(site)] == []
    assert shown.ask("document.documentElement.scrollWidth") == width
    too_wide = """[...document.querySelectorAll("body *")].filter(e => !e.closest("thead, svg, .skip")
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert shown.ask(too_wide) == []
