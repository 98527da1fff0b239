"""What exists in a tenancy, between the runs of Terraform: a file that every process of the provider shares.

    {"resources": {<ocid>: {"type": …, "values": {…}, "lifecycle": "ACTIVE", "born": <seconds since 1970>}},
     "made": <number of resources so far>, "delay": <seconds>, "refuse": {<type>: <how often its creation fails>}}

A test may edit the file: make something that exists before the stack, delete something by hand, or let a creation fail.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "LOCKSTEP_TEST_TENANCY"
"""Names the file."""
Values = dict[str, Any]

_UNIQUE = {
    "oci_identity_compartment": ("compartment_id", "name"),
    "oci_identity_user": ("name",),
    "oci_identity_group": ("name",),
    "oci_identity_dynamic_group": ("name",),
    "oci_identity_domains_oauth_client_certificate": ("idcs_endpoint", "certificate_alias"),
    "oci_identity_domains_app": ("idcs_endpoint", "name"),
    "oci_identity_domains_identity_propagation_trust": ("idcs_endpoint", "issuer"),
    "oci_identity_domains_user": ("idcs_endpoint", "user_name"),
    "oci_identity_policy": ("compartment_id", "name"),
    "oci_objectstorage_bucket": ("namespace", "name"),
    "oci_vault_secret": ("vault_id", "secret_name"),
    "oci_ons_notification_topic": ("name",),
    "oci_functions_application": ("compartment_id", "display_name"),
    "oci_functions_function": ("application_id", "display_name"),
    "oci_logging_log_group": ("compartment_id", "display_name"),
    "oci_logging_log": ("log_group_id", "display_name"),
}
"""What two resources of a type may not have in common."""
_GLOBAL = frozenset({"user", "group", "groupmembership", "dynamicgroup", "policy", "compartment"})
_SCHEDULED = frozenset({"oci_vault_secret", "oci_kms_vault", "oci_kms_key"})
"""Their deletion is scheduled; a secret's name stays taken until then."""
_IDENTITY = "oci_identity_"


class RefusedError(Exception):
    """The service refuses a request."""


class Tenancy:
    """The file's content, as the services see it."""

    def __init__(self, document: Values) -> None:
        self._document = document

    @property
    def _resources(self) -> dict[str, Values]:
        found: dict[str, Values] = self._document["resources"]
        return found

    def exists(self, ocid: str) -> bool:
        """Whether it can be read; what is scheduled for deletion cannot be managed any more."""
        return self._resources.get(ocid, {}).get("lifecycle") == "ACTIVE"

    def values(self, ocid: str) -> Values:
        """The values of a resource.

        Raises:
            RefusedError: There is none.
        """
        if ocid not in self._resources:
            raise RefusedError(f"404-NotAuthorizedOrNotFound, {ocid}")
        values: Values = self._resources[ocid]["values"]
        return values

    def all(self, kind: str) -> Iterator[tuple[Values, str]]:
        """The values and lifecycle states of the resources of a type."""
        for record in self._resources.values():
            if record["type"] == kind:
                yield record["values"], record["lifecycle"]

    def create(self, kind: str, short: str, values: Values) -> str:
        """Make a resource; its OCID.

        Args:
            kind: The type.
            short: The type in an OCID.
            values: Its arguments.

        Raises:
            RefusedError: The tenancy refuses it.
        """
        if self._document["refuse"].get(kind, 0) > 0:
            self._document["refuse"][kind] -= 1
            raise RefusedError(f"500-InternalError, {kind} was refused")
        taken = [values.get(name) for name in _UNIQUE.get(kind, ())]
        if kind == "oci_identity_compartment" and not values["enable_delete"]:
            # https://registry.terraform.io/providers/oracle/oci/latest/docs/resources/identity_compartment
            for ocid, record in self._resources.items():
                if record["type"] == kind and taken == [record["values"][n] for n in _UNIQUE[kind]]:
                    return ocid
        for other, _ in self.all(kind):
            if taken and taken == [other.get(name) for name in _UNIQUE[kind]]:
                raise RefusedError(f"409-AlreadyExists, {kind} {taken[-1]} already exists")
        if not kind.startswith(_IDENTITY):
            self._check_compartment(values.get("compartment_id"))
        if kind == "oci_objectstorage_bucket":
            self._check_bucket(values)
        self._document["made"] += 1
        digest = hashlib.sha256(f"{kind} {taken} {self._document['made']}".encode()).hexdigest()
        ocid = f"ocid1.{short}.oc1.{'' if short in _GLOBAL else 'eu-frankfurt-1'}.{digest[:60]}"
        self.put(kind, ocid, values)
        return ocid

    def put(self, kind: str, ocid: str, values: Values) -> None:
        """Write a resource, as it is now."""
        born = self._resources.get(ocid, {}).get("born", time.time())
        self._resources[ocid] = {"type": kind, "values": values, "lifecycle": "ACTIVE", "born": born}

    def delete(self, kind: str, ocid: str) -> None:
        """Delete a resource, or schedule its deletion.

        Raises:
            RefusedError: It is not empty, or in use.
        """
        if kind == "oci_identity_domains_app" and self.values(ocid)["active"]:
            # https://github.com/oracle/terraform-provider-oci/issues/2507
            raise RefusedError("400-BadErrorResponse, deactivate the application before you delete it")
        if kind == "oci_identity_compartment":
            inside = [
                o
                for o, r in self._resources.items()
                if r["values"].get("compartment_id") == ocid and r["lifecycle"] == "ACTIVE"
            ]
            if inside:
                raise RefusedError(f"409-CompartmentNotEmpty, {inside}")
        if kind == "oci_identity_domains_oauth_client_certificate":
            alias = self.values(ocid)["certificate_alias"]
            uses = [
                c["cert_alias"]
                for app, _ in self.all("oci_identity_domains_app")
                for c in app["certificates"]
            ]
            if alias in uses:
                raise RefusedError(f"409-Conflict, an application uses the certificate {alias}")
        if kind == "oci_objectstorage_bucket" and self._resources[ocid]["values"].get("objects"):
            raise RefusedError("409-BucketNotEmpty, the bucket has objects")
        if kind in _SCHEDULED:
            self._resources[ocid]["lifecycle"] = "PENDING_DELETION"
        else:
            self._resources.pop(ocid, None)

    def _known(self, ocid: str) -> bool:
        return bool(time.time() - self._resources[ocid]["born"] >= self._document["delay"])

    def _check_compartment(self, ocid: str | None) -> None:
        if ocid in self._resources and not self._known(ocid):
            raise RefusedError("404-NotAuthorizedOrNotFound, the compartment is not known in this region yet")

    def _check_bucket(self, values: Values) -> None:
        if values.get("retention_rules") and values.get("versioning") == "Enabled":
            # https://docs.oracle.com/iaas/Content/Object/Tasks/usingretentionrules.htm, "Versioning"
            raise RefusedError("409-RetentionRuleConflict, the bucket has versioning enabled")
        if values.get("kms_key_id"):
            self._check_key(values["kms_key_id"])

    def _check_key(self, key_id: str) -> None:
        """Object Storage must be allowed to use the key, by a policy that it knows."""
        for ocid, record in self._resources.items():
            if record["type"] == "oci_identity_policy" and self._known(ocid):
                for statement in record["values"]["statements"]:
                    if statement.startswith("Allow service objectstorage-") and key_id in statement:
                        return
        raise RefusedError("404-NotAuthorizedOrFoundKmsKey, Caught RestClientException exception")


@contextmanager
def tenancy() -> Iterator[Tenancy]:
    """The tenancy, for one request: no other process changes it meanwhile."""
    file = Path(os.environ[VARIABLE])
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = read(file)
        try:
            yield Tenancy(document)
        finally:
            write(file, document)


def read(file: Path) -> Values:
    """The document of a tenancy; an empty one if there is no file."""
    if not file.exists():
        return {"resources": {}, "made": 0, "delay": 0, "refuse": {}}
    document: Values = json.loads(file.read_text())
    return document


def write(file: Path, document: Values) -> None:
    """Replace the document."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(document))
    new.replace(file)
