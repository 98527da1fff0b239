"""The files that the agent writes: a login in the form that another program reads."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lockstep.client.cache import decode
from lockstep.protocol.errors import Environment, EnvironmentalError, LockstepError, SecretMalformedError
from lockstep.protocol.model import SecretStr
from lockstep.stores.contents import decode_databases


@contextmanager
def refused_as(problem: Environment, **where: str) -> Iterator[None]:
    """Tell what this machine refuses: as a problem of the environment, with the code of the refusal.

    Raises:
        EnvironmentalError: Something inside was refused, or is not what it should be.
    """
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        code = getattr(error, "strerror", None) or type(error).__name__
        raise EnvironmentalError(problem, **where, code=code) from None


# Files that are whole for whoever reads them: one is written beside its place and renamed.
#
# A reader sees the old file or the new one, and a full disk leaves the old one.


_FOLDER_MODE = 0o750


def replace_file(path: Path, content: bytes, *, mode: int, gid: int = -1) -> None:
    """Give a file this content. It has its mode and group before it has its name.

    Args:
        path: Its place, in a folder that is made for its owner and group where there is none. A link there is replaced,
            not followed.
        content: All of it.
        mode: Its permissions.
        gid: Its group; -1 leaves it to the process.

    Raises:
        OSError: It was not written; the one that was there before is whole.
    """
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # In this order: who has given a file away may not change its mode any more.
            os.fchmod(descriptor, mode)
            os.fchown(descriptor, -1, gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


NO_DATABASE = "no-such-database"


def require_place(path: Path, problem: Environment = Environment.FILE_REFUSED) -> None:
    """Look whether `replace_file` could make a file there; nothing is made.

    Raises:
        EnvironmentalError: It could not.
    """
    with refused_as(problem, path=str(path)):
        folder = next(folder for folder in path.parents if folder.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise PermissionError(None, "Permission denied")


class LoginFormError(LockstepError):
    """The login cannot be given in this form; a file that was there before is whole.

    Compare `database` in the settings with the plan: `lockstep agent --check`. A secret that a person has changed is
    right again after the next rotation: `lockstep rotate CREDENTIAL`. A control character is written by `format: json`
    and templates only; a code with a line is that of the template.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a file is made of.

    Attributes:
        text: The whole `app_user` secret.
        fields: What a program needs to connect: username, password, engine, host, port, dbname and generation.
    """

    text: SecretStr
    fields: Mapping[str, str] = field(repr=False)


def login_of(app_user: SecretStr, connection_blob: SecretStr | None, database: str | None) -> Login:
    """The login to a database, from the texts of the two secrets.

    Args:
        app_user: Has username and password, and the address of the credential's first database.
        connection_blob: Has the addresses of all databases; needed for another one than the first.
        database: Its name in the plan; None: the first.

    Raises:
        LoginFormError: They do not say what is needed, with the code NO_DATABASE where only that database is missing.
    """
    try:
        found, where = decode(app_user.reveal(), store="", secret=""), None
        if not database:
            where = found.connection
        elif connection_blob:
            where = decode_databases(connection_blob.reveal(), store="", secret="").get(database)
        if where is None:
            raise LoginFormError(database=database or "", code=NO_DATABASE)
        fields = {
            "username": found.username,
            "password": found.password.reveal(),
            "engine": where["engine"],
            "host": where["host"],
            "port": int(where["port"]),
            "dbname": where["dbname"],
            "generation": found.generation,
        }
        return Login(text=app_user, fields={name: str(value) for name, value in fields.items()})
    except SecretMalformedError as error:
        raise LoginFormError(code=error.where["code"]) from None
    except (ValueError, KeyError, TypeError):
        raise LoginFormError(database=database or "", code="no-address") from None


# https://www.postgresql.org/docs/current/libpq-pgpass.html
_PGPASS = "{host}:{port}:*:{username}:{password}\n"
# https://dev.mysql.com/doc/refman/8.4/en/option-files.html: quotes keep a `#`. A quote in a value is escaped: before
# they take quotes away, the clients look for a `#` outside of pairs of them. Without the protocol they would take the
# host `localhost` for a socket, and leave the port aside.
_MY_CNF = """\
[client]
user="{username}"
password="{password}"
host="{host}"
port="{port}"
protocol="tcp"

[mysql]
database="{dbname}"
"""
FORMATS: Mapping[str, tuple[str, str]] = {"pgpass": (_PGPASS, ":"), "my-cnf": (_MY_CNF, '"')}
"""Formats of lines: the text, and the character that a backslash escapes in a field, besides the backslash itself."""


def formatted(login: Login, form: str) -> str:
    """The text of a login: `json`, the text of the secret; or one of the `FORMATS`.

    Raises:
        LoginFormError: A field has a control character, which in a format of lines could begin another line.
    """
    if form == "json":
        return login.text.reveal() + "\n"
    if not all(value.isprintable() for value in login.fields.values()):
        raise LoginFormError(code="control-character")
    text, special = FORMATS[form]
    escaped = {n: v.replace("\\", "\\\\").replace(special, f"\\{special}") for n, v in login.fields.items()}
    return text.format(**escaped)


def rendered(login: Login, template: str) -> str:
    """The text of a jinja2 template for a login.

    Raises:
        LoginFormError: The template is wrong. The error has its line, not its text.
    """
    # Few agents have a template, and each would pay 7 MB for it.
    from jinja2 import Environment as Jinja  # noqa: PLC0415
    from jinja2 import StrictUndefined, TemplateError  # noqa: PLC0415

    environment = Jinja(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - no HTML
    try:
        return environment.from_string(template).render(login.fields)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        raise LoginFormError(code=f"template-line-{line}" if line else type(error).__name__) from None


# What runs after a file has changed. It gets no password, not as an argument and not in its environment: the file has
# it.

HOOK_SECONDS = 30.0
_LOOK_SECONDS = 0.25


def run_command(command: Sequence[str], over: threading.Event, *, seconds: float = HOOK_SECONDS) -> None:
    """Run a command; it and what it has started end after so many seconds at the latest.

    Args:
        command: A program and its arguments.
        over: Ends it earlier, since nobody will wait for it.
        seconds: For so long it may run.

    Raises:
        EnvironmentalError: It could not be started, ended with another status than 0, or did not end in time.
    """
    with refused_as(Environment.HOOK_FAILED):
        process = subprocess.Popen(  # noqa: S603 - the operator's own setting
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
    ends_at, status = time.monotonic() + seconds, None
    try:
        while status is None and time.monotonic() < ends_at and not over.is_set():
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(_LOOK_SECONDS)
    finally:  # Also where a signal ends this process.
        if status is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status is None:
        why = "ended with the agent" if over.is_set() else f"not done in {seconds:g} s"
        raise EnvironmentalError(Environment.HOOK_FAILED, code=why)
    if status:
        raise EnvironmentalError(Environment.HOOK_FAILED, code=f"status {status}")
