"""IAM's OIDC providers as AWS documents them, where moto is more lenient.

The facts are in the API reference of `CreateOpenIDConnectProvider`. That IAM
asks the server of a provider without thumbprints for its certificate is left out.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from moto.iam.exceptions import InvalidInput, ValidationError

from sandbox.emulators.aws.patching import Foreign, Patches

_THUMBPRINT: Final = re.compile(r"[0-9A-Fa-f]{40}")


def apply(patches: Patches) -> None:
    """A URL has https and a host, perhaps a path, and neither a port nor a query; a thumbprint is an SHA-1."""

    def on_create(original: Foreign) -> object:
        def create(
            self: Foreign, url: str, thumbprint_list: list[str], client_id_list: list[str], tags: Foreign
        ) -> object:
            parts = urlsplit(url)
            if (
                parts.scheme != "https"
                or not re.fullmatch(r"[A-Za-z0-9.-]+", parts.netloc)
                or "?" in url
                or "#" in url
            ):
                raise ValidationError("Invalid Open ID Connect Provider URL")
            _demand_thumbprints(thumbprint_list)
            if not all(client_id_list):
                raise ValidationError("1 validation error detected: Value at 'clientIDList' is empty")
            return original(self, url, thumbprint_list, client_id_list, tags)

        return create

    def on_update(original: Foreign) -> object:
        def update(self: Foreign, arn: str, thumbprint_list: list[str]) -> object:
            _demand_thumbprints(thumbprint_list)
            return original(self, arn, thumbprint_list)

        return update

    backend = "moto.iam.models:IAMBackend"
    patches.wrap(f"{backend}.create_open_id_connect_provider", on_create)
    patches.wrap(f"{backend}.update_open_id_connect_provider_thumbprint", on_update)


def _demand_thumbprints(listed: list[str]) -> None:
    if not all(map(_THUMBPRINT.fullmatch, listed)):
        raise InvalidInput("Thumbprint must be 40 hexadecimal characters.")
