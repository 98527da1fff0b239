"""The pictures of pages in docs/images/, in headless Chromium: the audit report of a simulated story, a made-up fleet.

python -m tests.browser.screens
"""

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from lockstep.audit.report.build import build
from lockstep.audit.report.evidence import evidence
from lockstep.audit.report.page import page
from tests.support.audit_story import whole_story
from tests.support.chromium import browser, chromium
from tests.support.fleet import MadeUp
from tests.support.fleet import shown as served

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
PICTURES = {"audit-report-wide": (1180, "light", 1700), "audit-report-narrow-dark": (400, "dark", 1700)}
"""Of each picture of the report: the width, the colour scheme, the height."""
LIVE = {
    "live-page-wide": ("", 1180, "light", 1500),
    "live-page-narrow-dark": ("credential/shop/service-00001", 400, "dark", 1700),
}
"""Of each picture of the live page: the path, and the same."""


def story_page() -> str:
    """The page on the story."""
    story = whole_story(8)
    given = evidence(story.world.credential, story.verify())
    since = story.now - timedelta(days=90)
    return page(build([given], since=since, now=story.now, lock="lockstep, eu-central-1"))


def main() -> int:
    """Draw the pictures; the exit code."""
    program = chromium()
    if program is None:
        sys.stderr.write("screens: there is no Chromium; run: make browser\n")
        return 1
    with tempfile.TemporaryDirectory() as folder, browser(program) as shown:
        file = Path(folder) / "report.html"
        file.write_text(story_page(), encoding="utf-8")
        for name, (width, scheme, height) in PICTURES.items():
            shown.open(file, width=width, scheme=scheme)
            (IMAGES / f"{name}.png").write_bytes(shown.screenshot(height=height))
        with served(MadeUp(60)) as url:
            for name, (path, width, scheme, height) in LIVE.items():
                shown.open(url + path, width=width, scheme=scheme)
                (IMAGES / f"{name}.png").write_bytes(shown.screenshot(height=height))
    return 0


if __name__ == "__main__":
    sys.exit(main())
