"""The Lambda face of `functions.generate.step`."""

from functions.generate import step
from lockstep.aws.lambda_face import lambda_face
from lockstep.messages import GenerateRequest

handler = lambda_face(step.run, GenerateRequest)
