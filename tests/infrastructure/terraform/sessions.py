"""A plan whose AWS runner has sessions in OCI, and what the stack in AWS gives Terraform for it."""

from collections.abc import Mapping
from typing import Any

from sandbox import plans
from sandbox.identities import DIGEST_READER_MAY, READERS_MAY, RUNNERS_MAY
from tests.infrastructure.terraform.stack import Document, plan_document

TO_OCI: Document = {**plans.TO_OCI, "client_id": "lockstep_client"}
ISSUER = "https://01234567-89ab-cdef-0123-456789abcdef.tokens.sts.global.api.aws"
ROLES = {
    step: f"arn:aws:iam::123456789012:role/lockstep-{step.replace('_', '-')}-4FZ0"
    for step in ("generate", "apply_db", "update_secrets", "digest")
}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\nAQID\n-----END CERTIFICATE-----\n"
FROM_AWS: Mapping[str, Any] = {
    "aws_token_issuer": ISSUER,
    "aws_role_arns": ROLES,
    "aws_client_certificate": CERTIFICATE,
}
"""The variables."""
FUNCTIONS_MAY: Mapping[str, tuple[tuple[str, str], ...]] = {
    "generate": tuple((p, "rings") for p in RUNNERS_MAY),
    "apply_db": tuple((p, "rings") for p in READERS_MAY),
    "update_secrets": tuple((p, "rings") for p in RUNNERS_MAY),
    "digest": tuple((p, "own") for p in DIGEST_READER_MAY),
}
"""All that the policies give each function: permission, and `rings` or `own` for the compartment."""


def federated(**changes: object) -> Document:
    """The plan, with other values in the section of the sessions."""
    document = plan_document()
    document["runners"]["aws"] = {"federation": {**TO_OCI, **changes}}
    return document
