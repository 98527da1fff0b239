"""The Lambda face of `functions.generate.step`."""

from functions.face import LambdaFace
from functions.generate import step
from lockstep.protocol.messages import GenerateRequest

handler = LambdaFace(step.run, GenerateRequest)
