"""IAM's OIDC providers as AWS documents them, where moto is more lenient or lacks an operation.

The facts are in the API reference of `CreateOpenIDConnectProvider` and `AddClientIDToOpenIDConnectProvider`. That IAM
asks the server of a provider without thumbprints for its certificate is left out.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from moto.core.responses import ActionResult, EmptyResult
from moto.iam.exceptions import InvalidInput, LimitExceededException, ValidationError

from sandbox.aws.patching import Foreign, Patches

_CLIENTS: Final = 100
_THUMBPRINT: Final = re.compile(r"[0-9A-Fa-f]{40}")


def apply(patches: Patches) -> None:
    """Make moto's OIDC providers as strict as the real ones."""
    demand_plain_urls(patches)
    change_clients(patches)


def demand_plain_urls(patches: Patches) -> None:
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


def change_clients(patches: Patches) -> None:
    """The client ids of a provider are added and removed one by one; each may be repeated. moto has neither."""

    def add(self: Foreign) -> ActionResult:
        listed, client_id = _asked(self)
        if client_id not in listed:
            if len(listed) >= _CLIENTS:
                raise LimitExceededException(
                    f"Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: {_CLIENTS}"
                )
            listed.append(client_id)
        return EmptyResult()

    def remove(self: Foreign) -> ActionResult:
        listed, client_id = _asked(self)
        if client_id in listed:
            listed.remove(client_id)
        return EmptyResult()

    response = "moto.iam.responses:IamResponse"
    patches.define_method(response, "add_client_id_to_open_id_connect_provider", add)
    patches.define_method(response, "remove_client_id_from_open_id_connect_provider", remove)


def _asked(self: Foreign) -> tuple[list[str], str]:
    provider = self.backend.get_open_id_connect_provider(self._get_param("OpenIDConnectProviderArn"))
    return provider.client_id_list, str(self._get_param("ClientID"))


def _demand_thumbprints(listed: list[str]) -> None:
    if not all(map(_THUMBPRINT.fullmatch, listed)):
        raise InvalidInput("Thumbprint must be 40 hexadecimal characters.")
