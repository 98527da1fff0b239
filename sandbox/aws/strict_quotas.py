"""Service Quotas of services that moto has none of, with their codes and the values of an account that raised nothing.

The codes are those of the AWS General Reference
(https://docs.aws.amazon.com/general/latest/gr/ev.html, https://docs.aws.amazon.com/general/latest/gr/lambda-service.html).
"""

from typing import Any, Final

from moto.servicequotas.exceptions import NoSuchResource

from sandbox.aws.patching import Foreign, Patches

Quotas = dict[tuple[str, str], float]

DEFAULTS: Final[Quotas] = {
    ("events", "L-244521F2"): 300,
    ("lambda", "L-B99A9384"): 1000,
    ("lambda", "L-2ACBD22F"): 75,
}
"""By service and code."""


def apply(patches: Patches, quotas: Quotas) -> None:
    """Let the account have these quotas.

    Args:
        patches: Undone when the sandbox stops.
        quotas: By service and code; what is not there has no value that was applied.
    """

    def get_service_quota(_backend: Foreign, service_code: str, quota_code: str) -> dict[str, Any]:
        value = quotas.get((service_code, quota_code))
        if value is None:
            raise NoSuchResource
        return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": value, "Adjustable": True}

    patches.replace("moto.servicequotas.models:ServiceQuotasBackend.get_service_quota", get_service_quota)
