"""The Lambda face of `functions.update_secrets.step`."""

from functions.face import LambdaFace
from functions.update_secrets import step
from lockstep.protocol.messages import UpdateRequest

handler = LambdaFace(step.run, UpdateRequest)
