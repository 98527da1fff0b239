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
