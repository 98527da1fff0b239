"""The Lambda face of `functions.audit.step`."""

from functions.audit import step
from functions.face import LambdaFace
from lockstep.protocol.messages import AuditRequest

handler = LambdaFace(step.run, AuditRequest)
