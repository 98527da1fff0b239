"""Every check of the doctor: `catalogue.yaml`, and what asks it."""

from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from lockstep.operate.doctor import aws, oci
from lockstep.operate.doctor.checks import Check

_ASKS = {
    aws.IDENTITY: aws.identity,
    aws.SECRETS: aws.secrets,
    oci.IDENTITY: oci.identity,
    oci.SECRETS: oci.secrets,
}


@cache
def catalogue() -> tuple[Check, ...]:
    """All of them, in the order in which findings are shown."""
    listed = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml"))
    return tuple(Check(**one, ask=_ASKS.get(one["id"])) for one in listed)
