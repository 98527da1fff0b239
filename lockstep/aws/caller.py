"""AWS Security Token Service: who calls. Every identity may ask this."""

from typing import Any

from lockstep.aws.clients import Trouble, translated
from lockstep.errors import AuditLogAccessDeniedError, AuditLogUnreachableError

_ERRORS = {
    Trouble.UNREACHABLE: AuditLogUnreachableError,
    Trouble.THROTTLED: AuditLogUnreachableError,
    Trouble.DENIED: AuditLogAccessDeniedError,
    Trouble.REJECTED: AuditLogAccessDeniedError,
}


def caller_arn(client: Any) -> str:  # noqa: ANN401 - botocore makes its clients' types at run time
    """The ARN of the identity, which an audit entry names."""
    with translated(_ERRORS):
        return str(client.get_caller_identity()["Arn"])
