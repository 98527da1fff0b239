"""The Lambda face of `functions.apply_db.step`."""

from functions.apply_db import step
from lockstep.aws.lambda_face import lambda_face
from lockstep.messages import DatabaseRequest

handler = lambda_face(step.run, DatabaseRequest)
