"""Time-outs of calls to clouds and databases. `Runner` takes them as an argument; the defaults fit the retries."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTimeouts:
    """Bounds of a call of a cloud.

    Attributes:
        connect_seconds: For a connection.
        read_seconds: For each wait for a part of the answer.
    """

    connect_seconds: float = 3.0
    read_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseTimeouts:
    """Bounds of every wait for a database server.

    Attributes:
        connect_seconds: For each address of the host.
        io_seconds: For each read or write, TLS included.
        lock_seconds: For the advisory lock, and for any lock inside the server that a statement needs. At least 1,
            since some servers take 0 for no bound. Less than `io_seconds`, so that the server gives up first and
            nothing happens there after the runner has left.
        idle_seconds: After which the server ends a silent admin session, and with it the advisory lock, so that a
            frozen or disconnected runner blocks others no longer than this. Must be longer than what the caller does
            between entering `exclusive` and its last statement.
    """

    connect_seconds: float = 5.0
    io_seconds: float = 10.0
    lock_seconds: int = 5
    idle_seconds: int = 120

    def __post_init__(self) -> None:
        if not 1 <= self.lock_seconds < self.io_seconds:
            raise ValueError("lock_seconds: must be at least 1, and less than io_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The bounds of all waits of a runner."""

    cloud: CloudTimeouts = CloudTimeouts()
    database: DatabaseTimeouts = DatabaseTimeouts()
