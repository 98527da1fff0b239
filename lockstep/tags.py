"""The tags by which IAM policies know Lockstep's secrets."""

from enum import StrEnum

STACK_TAG = "lockstep:stack"
"""On every resource: the stack that may use it."""

SECRET_TAG = "lockstep:secret"  # noqa: S105 - the name of a tag
"""On every secret: a `SecretKind`."""


class SecretKind(StrEnum):
    """What a secret in AWS is for. Each function may use some kinds only."""

    APP_USER = "app_user"
    CONNECTION_BLOB = "connection_blob"
    ADMIN = "admin"
    RUNNER_KEY = "runner-key"
    """What the AWS runner proves itself with in OCI, where it writes there too: API key or client secret."""
    RUNNER_READER_KEY = "runner-reader-key"
    """The API key of the functions that only read in OCI, where the plan gives them one of their own."""
