"""What a caller uploads into a secret, checked."""

import base64
import binascii
import re
from datetime import datetime
from typing import Final

from sandbox.emulators.oci.details import Details
from sandbox.emulators.oci.errors import invalid, missing
from sandbox.emulators.oci.secret import Stage, Version

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def first_version(details: Details, now: datetime) -> Version:
    """The version that a secret is created with; it is always current."""
    content = details.section("secretContent")
    if content is None:
        raise missing("secretContent")
    first = upload(content, 1, now)
    if first.stage != "CURRENT":
        raise invalid("stage must be CURRENT when a secret is created")
    return first


def upload(content: Details, number: int, now: datetime) -> Version:
    """The version that `secretContent` asks for."""
    if content.required_text("contentType") != "BASE64":
        raise invalid("contentType must be BASE64")
    text, name = content.required_text("content"), content.text("name")
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise invalid("content must be base64") from None
    if name is not None and not NAME.fullmatch(name):
        raise invalid("name may hold letters, digits, hyphens, underscores and periods")
    stage = content.text("stage") or "CURRENT"
    if stage not in {"CURRENT", "PENDING"}:
        raise invalid("stage must be CURRENT or PENDING")
    staged: Stage = "PENDING" if stage == "PENDING" else "CURRENT"
    return Version(number, name, text, staged, is_latest=True, time_created=now)
