"""A MySQL fake with one application account and one rotator, and PyMySQL clients that log in to it."""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self, TypeAlias

import pymysql
import trustme

from sandbox.mysql_fake import MySqlFake, Settings

Client: TypeAlias = "pymysql.Connection[Any]"

APP: Final = ("app_user", "%")
ROTATOR: Final = ("rotator", "%")
ROTATOR_PASSWORD: Final = "Rotator-1"
PROVISIONING: Final = (
    "CREATE DATABASE IF NOT EXISTS appdb",
    "CREATE USER IF NOT EXISTS 'app_user'@'%' IDENTIFIED BY 'one' REQUIRE SSL",
    "GRANT SELECT, INSERT ON appdb.* TO 'app_user'@'%'",
    f"CREATE USER IF NOT EXISTS 'rotator'@'%' IDENTIFIED BY '{ROTATOR_PASSWORD}' REQUIRE SSL",
    "GRANT CREATE USER ON *.* TO 'rotator'@'%'",
    "GRANT APPLICATION_PASSWORD_ADMIN ON *.* TO 'rotator'@'%'",
)
# `SELECT HEX(authentication_string)` of a MySQL server, for the password `foobar`.
FOOBAR_VERIFIER: Final = bytes.fromhex(
    "24412430303524031A69251C34295C4B35167C7F1E5A7B6309"
    "1349503974624D34504B5A424679354856336868686F52485A736E4A733368786E427575516C73446469496537"
)
NAMES: Final = ("localhost", "127.0.0.1")


class MySqlCase:
    """A provisioned server; a context manager, which closes its clients too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.settings = Settings()
        self.server = MySqlFake(*self.issue("server"), ca_file=self.ca_file, settings=self.settings)
        self._clients = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.server.start()
        self.server.execute_as_superuser(PROVISIONING)
        return self

    def __exit__(self, *_: object) -> None:
        self._clients.close()
        self.server.close()

    def issue(self, name: str, *hosts: str, not_after: datetime | None = None) -> tuple[Path, Path]:
        """A certificate and its key as files."""
        leaf = self.authority.issue_cert(*(hosts or NAMES), not_after=not_after)
        chain, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        return chain, key

    def connect(
        self,
        password: str | bytes,
        user: str = APP[0],
        *,
        tls: bool = True,
        patience_seconds: float = 5,
        **options: Any,  # noqa: ANN401  PyMySQL's
    ) -> Client:
        """Logs in, over verified TLS unless told not to; the client is closed with the case at the latest.

        Args:
            password: The account's.
            user: The account's.
            tls: Whether to ask for TLS.
            patience_seconds: How long the client waits for answers, once it is logged in.
            options: Further parameters of PyMySQL.
        """
        context = ssl.create_default_context(cafile=self.ca_file) if tls else None
        parameters: dict[str, Any] = {
            "host": self.server.host,
            "port": self.server.port,
            "user": user,
            "password": password,
            "ssl": context,
            "ssl_disabled": not tls,
            "connect_timeout": 5,
            "read_timeout": 5,
            "write_timeout": 5,
        }
        client = pymysql.connect(**{**parameters, **options})
        self._clients.callback(_close, client)
        client._read_timeout = patience_seconds  # type: ignore[attr-defined]  # the constructor's holds for logins
        return client

    def rotator(self, **options: Any) -> Client:  # noqa: ANN401  PyMySQL's
        return self.connect(ROTATOR_PASSWORD, ROTATOR[0], **options)

    def superuser(self, **options: Any) -> Client:  # noqa: ANN401  PyMySQL's
        return self.connect(self.server.superuser_password, self.server.superuser, **options)

    def accepted(self, *passwords: str) -> list[str]:
        """Which of these passwords log the application in, tried for real."""
        return [password for password in passwords if self.login_error(password) is None]

    def login_error(
        self,
        password: str | bytes,
        user: str = APP[0],
        *,
        tls: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> int | None:
        """The number of the error that a login ends with; None when it succeeds."""
        try:
            self.connect(password, user, tls=tls, **options).close()
        except pymysql.MySQLError as error:
            return int(error.args[0])
        return None


def _close(client: Client) -> None:
    if client.open:
        client.close()


def id_of(client: Client) -> int:
    """The connection id that the server's handshake told."""
    return int(client.thread_id())  # type: ignore[no-untyped-call]  # the stubs leave it out


def run(client: Client, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with client.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())


def value(client: Client, sql: str, *parameters: object) -> Any:  # noqa: ANN401  a column of any type
    ((found,),) = run(client, sql, *parameters)
    return found


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """The server refuses what is inside, with this error number."""
    try:
        yield
    except pymysql.MySQLError as error:
        assert error.args[0] == number, error  # noqa: PT017  the number is the expectation
    else:
        raise AssertionError(f"error {number} did not come")


@contextlib.contextmanager
def lost() -> Iterator[None]:
    """The connection is lost or times out while the client waits for an answer."""
    with refused(2013):
        yield


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether something becomes true in time."""
    deadline = monotonic() + seconds
    while not condition():
        if monotonic() > deadline:
            return False
    return True
