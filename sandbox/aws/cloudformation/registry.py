"""The types of resources that the sandbox's CloudFormation knows, and the handler of each."""

from collections.abc import Mapping

from moto.cloudformation.exceptions import ValidationError

from sandbox.aws.cloudformation import (
    access,
    account,
    alarms,
    encryption,
    monitoring,
    network,
    permissions,
    storage,
    triggers,
    versions,
    workers,
)
from sandbox.aws.cloudformation.kinds import Kind, Recorded

NOT_EMULATED = frozenset({"AWS::CDK::Metadata"})
"""Types that are accepted and have no effect. No call of a rotation depends on them."""

KINDS: Mapping[str, Kind] = {
    kind.type_name: kind
    for kind in (
        *access.KINDS,
        *account.KINDS,
        *alarms.KINDS,
        *encryption.KINDS,
        *monitoring.KINDS,
        *network.KINDS,
        *permissions.KINDS,
        *storage.KINDS,
        *triggers.KINDS,
        *versions.KINDS,
        *workers.KINDS,
        *(Recorded(type_name) for type_name in sorted(NOT_EMULATED)),
    )
}
"""The handler of each type. A module of handlers has a tuple `KINDS`, which is added here."""


def kind_of(type_name: str) -> Kind:
    """The handler of a type.

    Raises:
        ValidationError: There is none, as for an unknown type on AWS.
    """
    if type_name not in KINDS:
        raise ValidationError(message=f"Template format error: Unrecognized resource types: [{type_name}]")
    return KINDS[type_name]
