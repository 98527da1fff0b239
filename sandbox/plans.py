"""Builds the content of plan files, for the sandbox and the tests.

plan_document([database("orders", Engine.MYSQL)], [credential("multi-cloud/app_user", "orders")], oci=OciNames())
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lockstep.plan.credentials import PLAINTEXT_CONSENT
from lockstep.protocol.model import ENGINES, Engine, Strategy

Document = dict[str, Any]

AWS_REGION = "eu-central-1"
OCI_REGION = "eu-frankfurt-1"
DBNAME = "app"
LOCK_TABLE = "lockstep"
AUDIT_BUCKET = "lockstep-audit"
MAC_KEY = "alias/lockstep"
MAC_SECRET = "lockstep/mac"
OCI_KEY_SECRET = "lockstep/oci-key"
AWS_KEY_SECRET = "lockstep/aws-key"
EVENT_BUS = "lockstep-events"

TO_OCI: Document = {
    "domain_url": "https://idcs-sandbox.identity.oraclecloud.com",
    "client_id": "lockstep_client",
    "kms_key": "alias/lockstep-oci-client",
    "certificate": "lockstep",
}
"""Of `runners.aws.federation`."""
TO_AWS: Document = {
    "issuer": "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/tenant/b/lockstep-issuer/o",
    "key": {
        "id": "ocid1.key.oc1.eu.issuer",
        "version": "ocid1.keyversion.oc1.eu.issuer",
        "endpoint": "https://sandbox-crypto.kms.eu-frankfurt-1.oraclecloud.com",
    },
    "role_arn": "arn:aws:iam::123456789012:role/lockstep-oci-runner",
}
"""Of `runners.oci.federation`."""


@dataclass(frozen=True, kw_only=True)
class OciNames:
    """What a plan names in OCI.

    Attributes:
        own_compartment_id: None: the plan does not name it.
        topic_id: Of the topic for events.
    """

    compartment_id: str = "ocid1.compartment.oc1..aaaa"
    own_compartment_id: str | None = None
    vault_id: str = "ocid1.vault.oc1.eu.aaaa"
    namespace: str = "tenant"
    topic_id: str = "ocid1.onstopic.oc1.eu.aaaa"


def plan_document(
    databases: Sequence[Document],
    credentials: Sequence[Document],
    *,
    region: str = AWS_REGION,
    mac_key: str = MAC_KEY,
    oci: OciNames | None = None,
    runners: Document | None = None,
    events: bool = False,
) -> Document:
    """A plan.

    Args:
        databases: See `database`.
        credentials: See `credential`.
        region: The AWS region of everything.
        mac_key: The KMS key that signs the audit log.
        oci: The second store, audit log and runner; None for a plan with AWS only.
        runners: Who the runners are in the other cloud; by default each has a key.
        events: Whether events are sent, in each cloud.
    """
    document: Document = {
        "version": 1,
        "lock": {"table": LOCK_TABLE, "region": region},
        "stores": [{"kind": "aws-secrets-manager", "region": region}],
        "audit": {"aws": {"bucket": AUDIT_BUCKET, "mac_key": mac_key}},
        "databases": list(databases),
        "credentials": list(credentials),
    }
    if oci:
        document["stores"].append(
            {
                "kind": "oci-vault",
                "region": OCI_REGION,
                "compartment_id": oci.compartment_id,
                **({"own_compartment_id": oci.own_compartment_id} if oci.own_compartment_id else {}),
                "vault_id": oci.vault_id,
            }
        )
        document["audit"]["oci"] = {
            "bucket": AUDIT_BUCKET,
            "namespace": oci.namespace,
            "mac_secret": MAC_SECRET,
        }
        document["runners"] = runners or {
            "aws": {"oci_key_secret": OCI_KEY_SECRET},
            "oci": {"aws_key_secret": AWS_KEY_SECRET},
        }
    if events:
        document["events"] = {"aws": EVENT_BUS, **({"oci": oci.topic_id} if oci else {})}
    return document


def with_digest_keys(document: Document, keys: Mapping[str, str]) -> Document:
    """A plan that has the public keys of digests, as far as they are given, by its clouds."""
    audit = {
        cloud: {**section, "digest_keys": [keys[cloud]]} if cloud in keys else section
        for cloud, section in document["audit"].items()
    }
    return {**document, "audit": audit}


def database(
    name: str,
    engine: Engine,
    *,
    host: str | None = None,
    port: int | None = None,
    tls: str | None = None,
    **more: object,
) -> Document:
    """A database of the plan.

    Args:
        name: Its name in the plan.
        engine: Its engine.
        host: Its host; by default one that does not exist.
        port: Its port; by default the engine's usual one.
        tls: Its CA file, or "" for the system's CAs; None: the plan consents to plaintext.
        more: Further keys, or other values, as in the plan file.
    """
    return {
        "name": name,
        "engine": engine.value,
        "host": host or f"{name}.example.com",
        "port": port or ENGINES[engine].default_port,
        "dbname": DBNAME,
        "admin_secret": admin_secret(name),
        **({"plaintext": PLAINTEXT_CONSENT} if tls is None else {"ca_file": tls} if tls else {}),
        **more,
    }


def credential(
    credential_id: str,
    *databases: str,
    username: str = "app",
    strategy: Strategy = Strategy.DUAL_PASSWORD,
    **more: object,
) -> Document:
    """A credential of the plan.

    Args:
        credential_id: Its id.
        databases: Names of databases of the plan.
        username: Its username.
        strategy: How it is rotated.
        more: Further keys, as in the plan file.
    """
    return {
        "id": credential_id,
        "strategy": strategy.value,
        "username": username,
        "databases": list(databases),
        **more,
    }


def admin_secret(name: str) -> str:
    """The secret that holds the rotation user login of a database."""
    return f"lockstep/admin/{name}"


def write_plan(file: Path, document: Document) -> Path:
    """Write a plan file; its path."""
    with file.open("w") as output:
        YAML(typ="safe", pure=True).dump(document, output)
    return file
