"""The Lambda face of `functions.apply_db.step`."""

from functions.apply_db import step
from functions.face import LambdaFace
from lockstep.protocol.messages import DatabaseRequest

handler = LambdaFace(step.run, DatabaseRequest)
