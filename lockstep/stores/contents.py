"""The texts of the two secrets of a credential.

`app_user` has the field names of AWS's RDS secrets, so that tools which read those read it too
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html).
`connection_blob` has connection metadata and DSNs, without any password or username.

In a store whose tools map a secret to keys and values every member is a string: a number is its digits, an object its
JSON. Both forms are read everywhere, and say the same (protocol V23).
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeGuard

from lockstep.protocol import model
from lockstep.protocol.errors import SecretMalformedError, SecretTooLargeError
from lockstep.protocol.model import (
    ENGINES,
    Credential,
    CredentialValue,
    DatabaseServer,
    Engine,
    Login,
    SecretStr,
    Unprintable,
)
from lockstep.protocol.ports import MAX_TEXT_BYTES, NO_LOGIN, NOT_AN_OBJECT, SecretVersion, serving

# What people keep in a secret beside a login: the keys that Lockstep does not know (protocol V20).
#
# An estate that exists has more in a secret than a login: `dbClusterIdentifier`, `masterarn`, `ssl`, keys of its
# own. Each value that Lockstep writes carries them on, as they were spelled: a number that no float can hold
# stays what it is. A key may hold a password, so none is ever shown.

PLACEHOLDER = "placeholder"
"""What the first content of a secret has in the place of a login, in either cloud."""

_BETWEEN = re.compile(r"[ \t\n\r,:]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_DECODER = json.JSONDecoder()


class Extras(Unprintable):
    """Keys with their values as JSON texts."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, str]) -> None:
        self._members = dict(members)

    def reveal(self) -> Mapping[str, str]:
        """The JSON text of each value, by its key. Every call of this is a place to look at in a review."""
        return self._members

    def without(self, keys: Collection[str]) -> "Extras":
        """What is left without these keys."""
        return Extras({key: value for key, value in self._members.items() if key not in keys})

    def __bool__(self) -> bool:
        return bool(self._members)


NO_EXTRAS = Extras({})


def object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None if it is none, or longer than any store keeps."""
    try:
        document = json.loads(text) if len(text) <= MAX_TEXT_BYTES else None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def extras_in(text: str) -> Extras | None:
    """Every key of a text; None if it is no JSON object.

    Without the mark of a placeholder, by which a reader would take the next value for one.
    """
    document = object_in(text)
    if document is None:
        return None
    members: dict[str, str] = {}
    at = text.index("{") + 1
    while text[at := _next(text, at)] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _next(text, at)
        _, end = _DECODER.raw_decode(text, at)
        members[key], at = _LONE_SURROGATE.sub(_escaped, text[at:end]), end
    return Extras(members).without((PLACEHOLDER,) if PLACEHOLDER in document else ())


def carried(served: Sequence[SecretVersion]) -> Extras | None:
    """What the next value carries on, by what every place of a secret serves; None where no place has a JSON object.

    Of a ring the newest counts of: the value of the ring, and what is in a slot and was not written by Lockstep. So an
    edit by hand of any slot counts, whichever slot it is, and a slot that was only just made, with a placeholder,
    does not.
    """
    value = serving(served)
    found = [(version, extras_in(version.text or "")) for version in served]
    readable = [(v, e) for v, e in found if e is not None and (v is value or not v.generation)]
    told = [(v, e) for v, e in readable if e]
    if not readable:
        return None
    return max(told or readable, key=lambda item: (item[0].created_at or _EARLIEST, item[0] is not value))[1]


def _next(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


_RDS_ENGINES = {Engine.POSTGRESQL: "postgres"}
"""Where AWS's structure of a secret spells an engine in another way than a plan does."""
_LOGIN = ("username", "password")
_NAMED = ("format", "generation")
"""The numbers that every text of Lockstep's has."""
_NATURAL = re.compile(r"0|[1-9][0-9]{0,18}")
CONNECTION = ("engine", "host", "port", "dbname")
CLAIM = "lockstep_claim"
"""The key that names the claim for which a value was staged, as `<generation>:<run>` (protocol V22).

With the generation, since a build that does not know the key carries it on as a key of others.
"""
NO_DATABASES = "no-databases"
"""What is wrong with a malformed secret: the codes of SecretMalformedError."""


def encode_app_user(
    value: CredentialValue, credential: Credential, extras: Extras = NO_EXTRAS, *, only_strings: bool = False
) -> str:
    """The text of `app_user`: the same for the same value, plan, extra keys and form.

    A key of Lockstep's own is written by Lockstep, whatever it held before (protocol V20).
    """
    server = credential.primary
    claim = {CLAIM: f"{value.generation}:{value.claim_id}"} if value.claim_id else {}
    return _text(
        {
            "dbname": server.dbname,
            "engine": _RDS_ENGINES.get(server.engine, server.engine.value),
            "generation": value.generation,
            "host": server.host,
            "password": value.login.password.reveal(),
            "port": server.port,
            "username": value.login.username,
            **claim,
        },
        extras.without({CLAIM}),
        only_strings=only_strings,
    )


def encode_connection_blob(
    generation: int, credential: Credential, extras: Extras = NO_EXTRAS, *, only_strings: bool = False
) -> str:
    """The text of `connection_blob`: every database of the credential, and the URL of the first.

    It has no password and no username. With alternating users the username changes with each generation, and a reader
    that reads the two secrets around a promotion would pair the user of one with the password of the other. So a login
    that the secret held before is not carried on.
    """
    return _text(
        {
            "credential": credential.id,
            "databases": {server.name: _connection(server) for server in credential.servers},
            "dsn": _dsn(credential.primary),
            "generation": generation,
        },
        extras.without(_LOGIN),
        only_strings=only_strings,
    )


def _connection(server: DatabaseServer) -> dict[str, Any]:
    return {
        "dbname": server.dbname,
        "dsn": _dsn(server),
        "engine": server.engine.value,
        "host": server.host,
        "port": server.port,
        "tls": not server.plaintext,
    }


def _dsn(server: DatabaseServer) -> str:
    return f"{ENGINES[server.engine].dsn_scheme}://{server.host}:{server.port}/{server.dbname}"


def fitting(text: str, *, max_bytes: int, store: str, secret: str) -> str:
    """The text, if it is not too large for the store.

    Raises:
        SecretTooLargeError: It is; the error's code names the limit.
    """
    if len(text.encode()) > max_bytes:
        raise SecretTooLargeError(store=store, secret=secret, code=f"over-{max_bytes}-bytes")
    return text


def _text(ours: dict[str, Any], extras: Extras, *, only_strings: bool) -> str:
    document = {**ours, "format": model.FORMAT}
    if only_strings:
        document = {key: v if isinstance(v, str) else _compact(v) for key, v in document.items()}
    own = _compact(document)
    theirs = extras.without(document.keys()).reveal()
    return ",".join([own[:-1], *(f"{json.dumps(key)}:{value}" for key, value in theirs.items())]) + "}"


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def with_numbers(text: str) -> str:
    """A text of Lockstep's whose members are strings, in the other form; any other text as it is.

    For an application that gets the value from whichever store is near, and expects one form.
    """
    document, extras = object_in(text), extras_in(text)
    if document is None or extras is None:
        return text
    if any(not isinstance(document.get(k), str) or _natural(document[k]) is None for k in _NAMED):
        return text
    members = dict(extras.reveal())
    # Which of the two it is decides which keys are Lockstep's: `connection_blob` has no password (protocol V5).
    is_login = "password" in document
    for key in (*_NAMED, "port") if is_login else _NAMED:
        number = _natural(document.get(key))
        if number is not None:
            members[key] = str(number)
    databases = document.get("databases")
    if not is_login and isinstance(databases, str) and object_in(databases) is not None:
        members["databases"] = databases
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in members.items()) + "}"


def require_known_format(text: str, *, store: str, secret: str) -> None:
    """Refuse a text that a newer build wrote, whatever it looks like (protocol R10).

    Raises:
        NewerFormatError: A newer build wrote it.
        SecretMalformedError: It is not a JSON object.
    """
    document = _document(text, store=store, secret=secret)
    model.require_known(_natural(document.get("format")), store=store, secret=secret)


def decode_app_user(text: str, *, store: str, secret: str) -> tuple[Login | None, int]:
    """The login in `app_user` (None: a placeholder) and the generation that its text claims (0: none).

    A login is read in any format, so that an application need not be upgraded before the runners.

    Raises:
        NewerFormatError: It is neither, and a newer build wrote it.
        SecretMalformedError: It is neither.
    """
    document = _document(text, store=store, secret=secret)
    if PLACEHOLDER in document and "username" not in document and "password" not in document:
        return None, 0
    username, password = document.get("username"), document.get("password")
    if not (is_text(username) and is_text(password)):
        model.require_known(_natural(document.get("format")), store=store, secret=secret)
        raise SecretMalformedError(store=store, secret=secret, code=NO_LOGIN)
    return Login(username, SecretStr(password)), _generation(document)


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value may be a username or a password."""
    # A lone surrogate, which JSON can spell as an escape, is not a character, and no database takes it.
    return isinstance(value, str) and value != "" and not any("\ud800" <= c <= "\udfff" for c in value)


def decode_claim_id(text: str, generation: int, *, store: str, secret: str) -> str | None:
    """The run that made the claim for which `app_user` was staged; None where the text names none."""
    written = _document(text, store=store, secret=secret).get(CLAIM)
    claimed, _, claim_id = written.partition(":") if isinstance(written, str) else ("", "", "")
    return claim_id if claim_id and claimed == str(generation) else None


def decode_connection(text: str, *, store: str, secret: str) -> dict[str, Any]:
    """The connection fields in `app_user`: those of engine, host, port and dbname that it has.

    The engine is spelled as in the plan, whether the text has the plan's spelling or that of AWS's structure. The port
    is a number in either form.
    """
    document = _document(text, store=store, secret=secret)
    found: dict[str, Any] = {k: document[k] for k in CONNECTION if k in document}
    port = _natural(found.get("port"))
    if port is not None:
        found["port"] = port
    for engine, rds in _RDS_ENGINES.items():
        if found.get("engine") == rds:
            found["engine"] = engine.value
    return found


def decode_databases(text: str, *, store: str, secret: str) -> dict[str, dict[str, Any]]:
    """The databases in `connection_blob`: engine, host, port and dbname of each, by its name in the plan.

    Raises:
        SecretMalformedError: It has none.
    """
    found = _document(text, store=store, secret=secret).get("databases")
    if isinstance(found, str):
        found = object_in(found)
    if not (isinstance(found, dict) and all(isinstance(where, dict) for where in found.values())):
        raise SecretMalformedError(store=store, secret=secret, code=NO_DATABASES)
    return {name: {k: where[k] for k in CONNECTION if k in where} for name, where in found.items()}


def decode_blob_generation(text: str, *, store: str, secret: str) -> int:
    """The generation that `connection_blob` claims; 0 where it has none or is a placeholder."""
    return _generation(_document(text, store=store, secret=secret))


def _generation(document: dict[str, Any]) -> int:
    return _natural(document.get("generation")) or 0


def _natural(written: object) -> int | None:
    """The natural number that a member of a secret's text is, as a number or as a string (protocol V23)."""
    if isinstance(written, str) and _NATURAL.fullmatch(written):
        return int(written)
    return written if type(written) is int and written >= 0 else None


def _document(text: str, *, store: str, secret: str) -> dict[str, Any]:
    document = object_in(text)
    if document is None:
        # The parser's own message quotes the text, so it is dropped.
        raise SecretMalformedError(store=store, secret=secret, code=NOT_AN_OBJECT)
    return document
