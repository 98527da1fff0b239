"""A Lambda function whose step behaves as the name of its credential says; see `tests.frozen.work.behave`."""

from functions.face import LambdaFace
from lockstep.protocol.strict_json import Message
from lockstep.stores.credential import Ports
from tests.frozen.work import behave


class Named(Message):
    """As much of a rotation as the face needs."""

    credential_id: str
    rotation_id: str


class Ask(Message):
    """The request."""

    rotation: Named


def run(request: Ask, ports: Ports) -> Message:
    """Behave."""
    behave(request.rotation.credential_id.rpartition("/")[2], ports)


handler = LambdaFace(run, Ask)
