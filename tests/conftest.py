"""What holds for all tests."""

from functools import cache

from typer import testing

# Typer makes the commands of an app anew for each invocation, though they have no state. Many commands take less time.
testing._get_command = cache(testing._get_command)  # type: ignore[attr-defined]  # a private import of Typer's
