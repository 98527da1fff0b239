"""The pictures of the live page in docs/images/, in headless Chromium, with a made-up fleet.

python -m tests.browser.screens
"""

import sys
from pathlib import Path

from tests.support.chromium import browser, chromium
from tests.support.fleet import MadeUp
from tests.support.fleet import shown as served

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
PICTURES = {"live-page-wide": ("", 1180, "light", 1500)}
"""Of each picture: the path, the width, the colour scheme, the height."""


def main() -> int:
    """Draw the pictures; the exit code."""
    program = chromium()
    if program is None:
        sys.stderr.write("screens: there is no Chromium; run: make browser\n")
        return 1
    with browser(program) as shown, served(MadeUp(60)) as url:
        for name, (path, width, scheme, height) in PICTURES.items():
            shown.open(url + path, width=width, scheme=scheme)
            (IMAGES / f"{name}.png").write_bytes(shown.screenshot(height=height))
    return 0


if __name__ == "__main__":
    sys.exit(main())
