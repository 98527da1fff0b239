"""Slots of rings in OCI Vault that the plan names: looked at, and made where they are missing."""

import base64
from collections.abc import Mapping
from threading import Lock

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from oci.exceptions import ServiceError  # type: ignore[import-untyped]  # likewise

from lockstep.oci.clients import OciClients, Untyped
from lockstep.operate.secrets import FIRST_TEXT, Decision, RingTerms, in_oci
from lockstep.protocol.errors import STORE_ERRORS, ErrorKind, StoreAccessDeniedError, StoreRejectedError

_ERRORS = {
    **STORE_ERRORS,
    # Of a list or of a secret that is to be made: something else that it names may not be used.
    ErrorKind.NOT_FOUND: StoreAccessDeniedError,
    ErrorKind.QUOTA: StoreRejectedError,
}


_TAKEN = {
    400: frozenset({"InvalidParameter"}),
    409: frozenset({"Conflict", "IncorrectState", "AlreadyExists"}),
}
"""By status, the codes with which Vault may answer a name that is taken. Which one it uses is not documented."""


class RingSlots:
    """The slots of a plan's rings, as a place where secrets are made.

    Args:
        clients: Of the vault's region.
        terms: What each slot gets.
        own_compartment_id: Lockstep's other compartment, where a slot may be by mistake.
        store: The store's name, for errors.
    """

    def __init__(self, clients: OciClients, terms: RingTerms, *, own_compartment_id: str, store: str) -> None:
        self._clients, self._terms, self._store = clients, terms, store
        self._compartments = tuple(dict.fromkeys((terms.compartment_id, own_compartment_id)))
        self._lock = Lock()
        self._listed: dict[str, Untyped] | None = None

    def decide(self, name: str) -> Decision:
        """As `Place`.

        Raises:
            StoreAccessDeniedError: Likewise the other Store* errors.
        """
        with self._lock:
            if self._listed is None:
                self._listed = self._all()
            found = self._listed.get(name)
        return in_oci(name, found, self._terms)

    def carry_out(self, decision: Decision) -> bool:
        """As `Place`; errors as `decide`. No slot is tagged: one that exists stays as it is."""
        models = oci.vault.models
        details = models.CreateSecretDetails(
            compartment_id=self._terms.compartment_id,
            vault_id=self._terms.vault_id,
            key_id=self._terms.key_id,
            secret_name=decision.name,
            description="A slot of a ring. Lockstep rotates it.",
            freeform_tags=dict(decision.tags),
            defined_tags=_nested(self._terms.defined_tags or {}) or None,
            secret_content=models.Base64SecretContentDetails(
                content=base64.b64encode(FIRST_TEXT.encode()).decode("ascii")
            ),
        )
        with self._clients.translated(_ERRORS, store=self._store, secret=decision.name):
            try:
                self._clients.vaults.create_secret(details)
            except ServiceError as error:
                if error.code not in _TAKEN.get(error.status, ()):
                    raise
                with self._lock:
                    self._listed = None
                return False
        return True

    def search(self, name: str) -> str:
        """As `Place`."""
        words = f"query vaultsecret resources where displayName = '{name}'"
        return f'oci search resource structured-search --query-text "{words}"'

    def _all(self) -> dict[str, Untyped]:
        """The secrets of the vault in both compartments, by name."""
        found: dict[str, Untyped] = {}
        for compartment in reversed(self._compartments):  # The rings' own last: it wins.
            with self._clients.translated(_ERRORS, store=self._store):
                listed = oci.pagination.list_call_get_all_results(
                    self._clients.vaults.list_secrets,
                    compartment,
                    vault_id=self._terms.vault_id,
                    limit=100,
                ).data
                found |= {s.secret_name: s for s in listed if s.lifecycle_state != "DELETED"}
        return found


def _nested(tags: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Defined tags as the SDK has them, by namespace and key."""
    found: dict[str, dict[str, str]] = {}
    for name, value in tags.items():
        namespace, _, key = name.partition(".")
        found.setdefault(namespace, {})[key] = value
    return found
