"""The Lambda face of `functions.audit.step`."""

from functions.audit import step
from lockstep.aws.lambda_face import lambda_face
from lockstep.messages import AuditRequest

handler = lambda_face(step.run, AuditRequest)
