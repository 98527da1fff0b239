"""The examples of docs/client.md."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def examples() -> list[str]:
    """Every block of Python, in the page's order."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def adapted(example: str, names: dict[str, str]) -> str:
    """An example in which names of the page are replaced by those of a test. Each name must be a whole text."""
    for name, own in names.items():
        example = example.replace(f'"{name}"', repr(own))
    return example
