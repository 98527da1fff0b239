"""Entries as a test makes them: valid ones, and those of somebody who may put objects and has no key."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from lockstep.audit.chain import Sealed, seal
from lockstep.audit.entry import ChainEnd, Stored
from lockstep.protocol.ports import Signer
from tests.support.memory import MemorySigner


def sealed(
    event: Mapping[str, Any],
    after: Stored | None = None,
    *,
    signer: Signer,
    credential_id: str = "multi-cloud/app_user",
    stream: str = "aws",
    rotation_id: str = "run-1",
) -> Sealed:
    """An entry after another one."""
    end = ChainEnd(after=after, seq=after.number + 1 if after else 1)
    return seal(
        event, end, credential_id=credential_id, stream=stream, signer=signer, rotation_id=rotation_id
    )


def resigned(document: Mapping[str, Any], signer: MemorySigner) -> bytes:
    """An entry whose seal was made again after a change."""
    chain = {**document["chain"], "event": hashlib.sha256(rfc8785.dumps(document["event"])).hexdigest()}
    mac = signer.sign(hashlib.sha256(rfc8785.dumps(chain)).digest())
    signed = {**document["mac"], "key_id": mac.key_id, "value": base64.b64encode(mac.value).decode()}
    return rfc8785.dumps({"chain": chain, "event": document["event"], "mac": signed})
