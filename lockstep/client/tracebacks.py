"""No password in what a crash reporter sends: the local variables of frames that have ended are dropped.

A reporter walks a traceback and sends each frame's variables. Frames of a read hold the text of the secret, and frames
of a driver hold the password.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_locals() -> Iterator[None]:
    """Let an error out without the local variables of the frames that it has passed, and those of its causes.

    The frames stay, with their files and lines. What the caller was handling already is not touched.
    """
    handled = sys.exception()
    try:
        yield
    except BaseException as error:
        for one in _chain(error, handled):
            traceback.clear_frames(one.__traceback__)
        raise


def _chain(error: BaseException, handled: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one is handled or any(one is other for other in found):
            continue
        found.append(one)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return found
