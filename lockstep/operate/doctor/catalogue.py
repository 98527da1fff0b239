"""Every check of the doctor: `catalogue.yaml`, and what asks it."""

from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from lockstep.operate.doctor import clouds
from lockstep.operate.doctor.checks import Check

_ASKS = {
    clouds.IDENTITY_AWS: clouds.identity_in_aws,
    clouds.SECRETS_AWS: clouds.secrets_in_aws,
    clouds.IDENTITY_OCI: clouds.identity_in_oci,
    clouds.SECRETS_OCI: clouds.secrets_in_oci,
}


@cache
def catalogue() -> tuple[Check, ...]:
    """All of them, in the order in which findings are shown."""
    listed = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml"))
    return tuple(Check(**one, ask=_ASKS.get(one["id"])) for one in listed)
