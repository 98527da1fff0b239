"""Who uses which generation of a credential: what clients and agents say of themselves, and what is read of it.

Each process keeps a file of its own in a directory, `/run/lockstep/usage` by default, and an agent answers
`GET /lockstep/usage` with its own and those of that directory. Nothing in it is secret, and nothing of it is trusted:
whoever may write there can say what he likes.

    found = usage_at(["/run/lockstep/usage", "http://127.0.0.1:2773"], now=SystemClock().now())
    for usage in found.below("multi-cloud/app_user", 41):
        print(usage.name, usage.host, usage.lowest)
"""

import http.client
import json
import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lockstep.errors import LockstepError

DEFAULT_DIRECTORY = Path("/run/lockstep/usage")
PATH = "/lockstep/usage"
FORMAT = 1
MAX_BYTES = 4096
"""Of one process's file; a longer one is none of ours."""
MAX_USAGES = 1000
"""Of one directory or agent; what is more is not read."""
LONGEST_SILENCE = timedelta(days=1)
"""After which a process is taken to have ended, where its id tells nothing."""
_SECONDS = 5.0
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:/@+ -]")
LONGEST_NAME = 100


class UsageUnreadableError(LockstepError):
    """A directory or an agent that should know who uses a generation did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One process's use of one credential.

    Attributes:
        credential: Its id in the plan.
        generation: What the process logs in with from now on.
        name: Of the program.
        host: Of its machine, or of its container.
        pid: In its container.
        namespace: Of its process ids; processes in another one cannot tell whether it has ended.
        since: When it had this generation first.
        at: When it was last seen to use it.
        oldest_connection: The lowest generation of its open connections, where that is known.
    """

    credential: str
    generation: int
    name: str
    host: str
    pid: int
    namespace: str
    since: datetime
    at: datetime
    oldest_connection: int | None = None

    @property
    def lowest(self) -> int:
        """The lowest generation that it still holds."""
        return min(self.generation, self.oldest_connection or self.generation)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "credential": self.credential,
            "generation": self.generation,
            "name": self.name,
            "host": self.host,
            "pid": self.pid,
            "namespace": self.namespace,
            "since": self.since.isoformat(),
            "at": self.at.isoformat(),
            "oldest_connection": self.oldest_connection,
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "Usage":
        """What a document says. Characters that a name cannot have are shown as `?`.

        Raises:
            ValueError: It is none of this format.
        """
        try:
            if document["format"] != FORMAT:
                raise ValueError("another format")
            oldest = document["oldest_connection"]
            return cls(
                credential=_name(document["credential"]),
                generation=_number(document["generation"]),
                name=_name(document["name"]),
                host=_name(document["host"]),
                pid=_number(document["pid"]),
                namespace=_name(document["namespace"]),
                since=_moment(document["since"]),
                at=_moment(document["at"]),
                oldest_connection=None if oldest is None else _number(oldest),
            )
        except (KeyError, TypeError, AttributeError, OverflowError):
            raise ValueError("not a usage") from None

    def has_ended(self, now: datetime) -> bool:
        """Whether the process has ended: by its id, or where that tells nothing by its silence."""
        if (self.host, self.namespace) != here():
            return now - self.at > LONGEST_SILENCE
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What several places say.

    Attributes:
        usages: Of processes that have not ended, as far as is known.
        problems: Of the places that did not answer.
    """

    usages: tuple[Usage, ...]
    problems: Mapping[str, UsageUnreadableError]

    def of(self, credential_id: str) -> list[Usage]:
        """Those of a credential, the lowest generation first."""
        mine = [usage for usage in self.usages if usage.credential == credential_id]
        return sorted(mine, key=lambda usage: (usage.lowest, usage.name, usage.host, usage.pid))

    def below(self, credential_id: str, generation: int) -> list[Usage]:
        """Those that hold an older generation than this, or have connections of one."""
        return [usage for usage in self.of(credential_id) if usage.lowest < generation]


@lru_cache(maxsize=1)
def _host() -> str:
    return _name(socket.gethostname())


def here() -> tuple[str, str]:
    """The machine's name, and the namespace of this process's id."""
    namespace = ""
    with suppress(OSError):
        namespace = _name(Path("/proc/self/ns/pid").readlink().name)
    return _host(), namespace


def usage_at(places: Sequence[str], *, now: datetime) -> Found:
    """What directories and agents know.

    Args:
        places: Directories, Unix sockets of agents, and addresses of agents such as `http://127.0.0.1:2773`.
        now: The time.
    """
    found: dict[Usage, None] = {}  # An agent tells what is in its directory, too.
    problems = {}
    for place in places:
        try:
            usages = in_directory(Path(place)) if Path(place).is_dir() else _of_agent(place)
            found.update(dict.fromkeys(usages))
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            code = getattr(error, "strerror", None) or type(error).__name__
            problems[place] = UsageUnreadableError(path=place, code=code)
    return Found(usages=tuple(u for u in found if not u.has_ended(now)), problems=problems)


def in_directory(directory: Path) -> Iterator[Usage]:
    """What processes have written into a directory.

    Raises:
        OSError: It cannot be read.
    """
    return (usage for _, usage in _files(directory))


def forget_ended(directory: Path, *, now: datetime) -> None:
    """Remove what processes have written that have ended, as far as this one may.

    Raises:
        OSError: The directory cannot be read.
    """
    for file, usage in _files(directory):
        if usage.has_ended(now):
            with suppress(OSError):
                file.unlink()


def _files(directory: Path) -> Iterator[tuple[Path, Usage]]:
    with os.scandir(directory) as entries:
        files = [Path(entry.path) for entry in entries if entry.name.endswith(".json")]
    for file in sorted(files)[:MAX_USAGES]:
        with suppress(OSError, ValueError, RecursionError):
            yield file, Usage.of_document(json.loads(_text(file)))


def _text(file: Path) -> bytes:
    # Anybody may put anything there: a link, or a pipe that never ends.
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a file")
        return opened.read(MAX_BYTES)


def _of_agent(place: str) -> list[Usage]:
    connection = _connection(place)
    try:
        connection.request("GET", PATH)
        reply = connection.getresponse()
        if reply.status != http.client.OK:
            raise ValueError("refused")
        documents = json.loads(reply.read(MAX_USAGES * MAX_BYTES))["usage"]
        return list(_usages(documents))
    except (KeyError, TypeError):
        raise ValueError("not an agent") from None
    finally:
        connection.close()


def _usages(documents: Iterable[Any]) -> Iterator[Usage]:
    for document in documents:
        with suppress(ValueError):
            yield Usage.of_document(document)


def _connection(place: str) -> http.client.HTTPConnection:
    if Path(place).is_socket():
        return _UnixConnection(place)
    address = urlsplit(place)
    if address.scheme != "http" or not address.hostname:
        raise FileNotFoundError(None, "no directory or socket or http address")
    return http.client.HTTPConnection(address.hostname, address.port, timeout=_SECONDS)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _name(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError("not a name")
    return _UNSAFE.sub("?", text[:LONGEST_NAME])


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("not a number")
    return value


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
