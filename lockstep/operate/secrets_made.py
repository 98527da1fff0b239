"""AWS Secrets Manager: the tags of a secret, and what else decides whether Lockstep may use it.

DescribeSecret shows no value (https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DescribeSecret.html).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from oci.exceptions import ServiceError  # type: ignore[import-untyped]  # likewise

from lockstep.aws.clients import STORE_ERRORS, translated
from lockstep.oci.clients import OciClients, Trouble, Untyped
from lockstep.oci.vault import STORE_ERRORS as OCI_STORE_ERRORS
from lockstep.operate.secrets import (
    AWS_DESCRIPTION,
    FIRST_TEXT,
    OCI_DESCRIPTION,
    Decision,
    Found,
    FoundSlot,
    RingTerms,
    StackTerms,
    Wanted,
    in_aws,
    in_oci,
    taken,
)
from lockstep.protocol.errors import LockstepError, StoreAccessDeniedError, StoreRejectedError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


def describe(client: "SecretsManagerClient", name: str) -> Found | None:
    """The secret as it is; None where there is none of this name.

    Raises:
        StoreAccessDeniedError: The identity may not describe it; likewise the other Store* errors.
    """
    with translated(STORE_ERRORS, store="aws", secret=name):
        try:
            reply = client.describe_secret(SecretId=name)
        except client.exceptions.ResourceNotFoundException:
            return None
        return _found(reply)


def _found(entry: Mapping[str, Any]) -> Found:
    return Found(
        arn=entry["ARN"],
        tags={tag["Key"]: tag["Value"] for tag in entry.get("Tags", [])},
        key=entry.get("KmsKeyId"),
        is_rotated=bool(entry.get("RotationEnabled")),
        is_deleted="DeletedDate" in entry,
        primary_region=entry.get("PrimaryRegion"),
        owning_service=entry.get("OwningService"),
    )


def tag(client: "SecretsManagerClient", name: str, tags: Mapping[str, str]) -> None:
    """Add tags; others stay.

    Raises:
        StoreAccessDeniedError: The identity may not tag it; likewise the other Store* errors.
    """
    with translated(STORE_ERRORS, store="aws", secret=name):
        client.tag_resource(SecretId=name, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])


# AWS Secrets Manager: the secrets of credentials, as a place where secrets are made.
#
#     decide    DescribeSecret
#     make      CreateSecret, with the tags: there is no secret without them
#     tag       TagResource
#
# No value is ever read, or written into a secret that exists.


@dataclass(frozen=True, kw_only=True)
class StackSecrets:
    """The secrets of a stack, as a place where secrets are made.

    Attributes:
        client: Of the region.
        terms: What they get.
        wanted: What the plan names, by name.
    """

    client: "SecretsManagerClient"
    terms: StackTerms
    wanted: Mapping[str, Wanted]

    def decide(self, name: str) -> Decision:
        """As `Place`.

        Raises:
            StoreAccessDeniedError: Likewise the other Store* errors.
        """
        return in_aws(self.wanted[name], describe(self.client, name), self.terms)

    def make(self, decision: Decision) -> bool:
        """As `Place`; errors as `decide`."""
        with translated(STORE_ERRORS, store="aws", secret=decision.name):
            try:
                self.client.create_secret(
                    Name=decision.name,
                    Description=AWS_DESCRIPTION,
                    KmsKeyId=self.terms.key,
                    SecretString=FIRST_TEXT,
                    Tags=[{"Key": key, "Value": value} for key, value in decision.tags.items()],
                )
            except self.client.exceptions.ResourceExistsException:
                return False
        return True

    def tag(self, decision: Decision) -> None:
        """As `Place`; errors as `decide`."""
        tag(self.client, decision.name, decision.tags)

    def taken(self, name: str) -> Decision:
        """As `Place`."""
        return taken(name)


# OCI Vault: the slots of rings, as a place where secrets are made.
#
#     decide    ListSecrets, once for the rings' compartment and for Lockstep's own; again, by name, for what was
#     tried
#     make      CreateSecret, with content and tags
#
# No content is ever read, or written into a slot that exists.

_ERRORS: Mapping[Trouble, type[LockstepError]] = {
    **OCI_STORE_ERRORS,
    # Of a list or of a secret that is to be made: something else that it names may not be used.
    Trouble.NOT_FOUND: StoreAccessDeniedError,
    Trouble.QUOTA: StoreRejectedError,
}
_PAGE = 100
_TAKEN = {
    400: frozenset({"InvalidParameter"}),
    409: frozenset({"Conflict", "IncorrectState", "AlreadyExists"}),
}
"""By status, the codes with which Vault may answer a name that is taken. Which one it uses is not documented."""
_GONE = "DELETED"


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
        self._listed: dict[str, FoundSlot] | None = None
        self._tried: set[str] = set()

    def decide(self, name: str) -> Decision:
        """As `Place`.

        Raises:
            StoreAccessDeniedError: Likewise the other Store* errors.
        """
        if name in self._tried:
            return in_oci(name, self._all(name).get(name), self._terms)
        with self._lock:
            if self._listed is None:
                self._listed = self._all()
        return in_oci(name, self._listed.get(name), self._terms)

    def make(self, decision: Decision) -> bool:
        """As `Place`; errors as `decide`."""
        self._tried.add(decision.name)
        models = oci.vault.models
        details = models.CreateSecretDetails(
            compartment_id=self._terms.compartment_id,
            vault_id=self._terms.vault_id,
            key_id=self._terms.key_id,
            secret_name=decision.name,
            description=OCI_DESCRIPTION,
            freeform_tags=dict(decision.tags),
            defined_tags=_nested(self._terms.defined_tags) or None,
            secret_content=models.Base64SecretContentDetails(
                content=base64.b64encode(FIRST_TEXT.encode()).decode("ascii")
            ),
        )
        with self._clients.translated(_ERRORS, store=self._store, secret=decision.name):
            try:
                self._clients.vaults.create_secret(details)
            except ServiceError as error:
                if error.code in _TAKEN.get(error.status, ()):
                    return False
                raise
        return True

    def tag(self, decision: Decision) -> NoReturn:
        """No decision asks for it: a slot that exists stays as it is."""
        raise NotImplementedError(decision.name)

    def taken(self, name: str) -> Decision:
        """As `Place`."""
        words = f"query vaultsecret resources where displayName = '{name}'"
        return taken(name, f'oci search resource structured-search --query-text "{words}"')

    def _all(self, name: str | None = None) -> dict[str, FoundSlot]:
        """The secrets of the vault in both compartments; of one name, or all."""
        found: dict[str, FoundSlot] = {}
        more = {"name": name} if name else {}
        for compartment in reversed(self._compartments):  # The rings' own last: it wins.
            with self._clients.translated(_ERRORS, store=self._store):
                listed = oci.pagination.list_call_get_all_results(
                    self._clients.vaults.list_secrets,
                    compartment,
                    vault_id=self._terms.vault_id,
                    limit=_PAGE,
                    **more,
                ).data
                found |= {s.secret_name: _slot(s) for s in listed if s.lifecycle_state != _GONE}
        return found


def _slot(summary: Untyped) -> FoundSlot:
    return FoundSlot(
        id=summary.id,
        compartment_id=summary.compartment_id,
        lifecycle=summary.lifecycle_state,
        key_id=summary.key_id,
    )


def _nested(tags: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Defined tags as the SDK has them, by namespace and key."""
    found: dict[str, dict[str, str]] = {}
    for name, value in tags.items():
        namespace, _, key = name.partition(".")
        found.setdefault(namespace, {})[key] = value
    return found
