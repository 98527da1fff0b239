"""The texts of the two secrets of a credential.

`app_user` has the field names of AWS's RDS secrets, so that tools which read those read it too
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html).
`connection_blob` has connection metadata and DSNs, without any password or username.
"""

import json
from typing import Any, TypeGuard

from lockstep import formats
from lockstep.engines import ENGINES
from lockstep.errors import SecretMalformedError
from lockstep.model import Credential, CredentialValue, DatabaseServer, Login, SecretStr

PLACEHOLDER = "placeholder"
MAX_SECRET_BYTES = 25_600
"""What OCI Vault takes; AWS takes 65,536."""


def encode_app_user(value: CredentialValue, credential: Credential) -> str:
    """The text of `app_user`: the same for the same value and plan."""
    server = credential.primary
    return _text(
        {
            "dbname": server.dbname,
            "engine": server.engine.value,
            "format": formats.FORMAT,
            "generation": value.generation,
            "host": server.host,
            "password": value.login.password.reveal(),
            "port": server.port,
            "username": value.login.username,
        }
    )


def encode_connection_blob(generation: int, credential: Credential) -> str:
    """The text of `connection_blob`: every database of the credential.

    It has no password and no username. With alternating users the username changes with each generation, and a reader
    that reads the two secrets around a promotion would pair the user of one with the password of the other.
    """
    return _text(
        {
            "credential": credential.id,
            "databases": {server.name: _connection(server) for server in credential.servers},
            "format": formats.FORMAT,
            "generation": generation,
        }
    )


def _connection(server: DatabaseServer) -> dict[str, Any]:
    return {
        "dbname": server.dbname,
        "dsn": f"{ENGINES[server.engine].dsn_scheme}://{server.host}:{server.port}/{server.dbname}",
        "engine": server.engine.value,
        "host": server.host,
        "port": server.port,
        "tls": not server.plaintext,
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def require_known_format(text: str, *, store: str, secret: str) -> None:
    """Refuse a text that a newer build wrote, whatever it looks like (protocol R10).

    Raises:
        NewerFormatError: A newer build wrote it.
        SecretMalformedError: It is not a JSON object.
    """
    document = _document(text, store=store, secret=secret)
    formats.require_known(formats.format_of(document), store=store, secret=secret)


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
    if not (_is_text(username) and _is_text(password)):
        formats.require_known(formats.format_of(document), store=store, secret=secret)
        raise SecretMalformedError(store=store, secret=secret)
    return Login(username, SecretStr(password)), _generation(document)


def _is_text(value: object) -> TypeGuard[str]:
    # A lone surrogate, which JSON can spell as an escape, is not a character, and no database takes it.
    return isinstance(value, str) and value != "" and not any("\ud800" <= c <= "\udfff" for c in value)


def decode_connection(text: str, *, store: str, secret: str) -> dict[str, Any]:
    """The connection fields in `app_user`: those of engine, host, port and dbname that it has."""
    document = _document(text, store=store, secret=secret)
    return {key: document[key] for key in ("engine", "host", "port", "dbname") if key in document}


def decode_blob_generation(text: str, *, store: str, secret: str) -> int:
    """The generation that `connection_blob` claims; 0 where it has none or is a placeholder."""
    return _generation(_document(text, store=store, secret=secret))


def _generation(document: dict[str, Any]) -> int:
    generation = document.get("generation", 0)
    is_generation = isinstance(generation, int) and not isinstance(generation, bool) and generation >= 0
    return generation if is_generation else 0


def _document(text: str, *, store: str, secret: str) -> dict[str, Any]:
    try:
        document = json.loads(text) if len(text) <= MAX_SECRET_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        # The parser's own message quotes the text, so it is dropped.
        raise SecretMalformedError(store=store, secret=secret)
    return document
