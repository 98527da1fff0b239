"""The site: Markdown pages of docs/, by Sphinx with MyST and Furo (ADR 57). `make docs` builds it into build/site/."""

import os
import sys
from pathlib import Path

from lockstep import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "Lockstep"
author = "The Lockstep authors"
release = __version__
html_title = f"Lockstep {release}"

extensions = ["myst_parser", "pages", "generate"]
# Decisions are for those who change Lockstep, and would be first in every search: they are read in the repository.
# Packages are read in their folders.
exclude_patterns = ["site/**", "adr/**", "how-to/*/README.md"]
root_doc = "index"

# Anchors as GitHub makes them, so that a link works in both.
myst_heading_anchors = 4

# Nothing is loaded from elsewhere when a page is read: Furo has no fonts and no scripts of others.
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

# Where files beside docs/ can be read, such as https://example.com/lockstep/blob/main; without it they are only named.
repository_files = os.environ.get("REPOSITORY_FILES", "").rstrip("/")

# A lexer that does not know a newer word of its language, such as `ephemeral` in HCL, breaks no page.
suppress_warnings = ["misc.highlighting_failure"]
