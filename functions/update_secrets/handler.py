"""The Lambda face of `functions.update_secrets.step`."""

from functions.update_secrets import step
from lockstep.aws.lambda_face import lambda_face
from lockstep.messages import UpdateRequest

handler = lambda_face(step.run, UpdateRequest)
