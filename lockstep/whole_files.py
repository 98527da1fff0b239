"""Files that are whole for whoever reads them: one is written beside its place and renamed.

A reader sees the old file or the new one, and a full disk leaves the old one.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Give a file this content. It has its mode and owner before it has its name.

    Args:
        path: Its place; the folder must exist. A link there is replaced, not followed.
        content: All of it.
        mode: Its permissions.
        uid: Its owner; -1 leaves it to the process.
        gid: Its group; likewise.

    Raises:
        OSError: It was not written; the one that was there before is whole.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # In this order: who has given a file away may not change its mode any more.
            os.fchmod(descriptor, mode)
            os.fchown(descriptor, uid, gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
