"""The Lambda face of `functions.audit.step`."""

from functions.audit import step
from functions.face import LambdaFace
from lockstep.protocol.messages import Run

handler = LambdaFace(step.run, Run)
