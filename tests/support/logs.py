"""The audit logs of both clouds, as the runtime opens them."""

from typing import Any

from lockstep.aws.s3 import S3Folder
from lockstep.oci.clients import OciClients
from lockstep.oci.object_storage import ObjectStorageFolder
from lockstep.protocol.ports import EntryLog, chain_folder


def s3_log(client: Any, bucket: str, credential_id: str, *, page_size: int = 1000) -> EntryLog:  # noqa: ANN401 - as `aws_client`
    """A credential's log in AWS."""
    folder = f"aws/{chain_folder(credential_id)}"
    return EntryLog(S3Folder(client, bucket, folder, stream="aws", page_size=page_size))


def object_storage_log(
    clients: OciClients, namespace: str, bucket: str, credential_id: str, *, page_size: int = 1000
) -> EntryLog:
    """A credential's log in OCI."""
    folder = f"oci/{chain_folder(credential_id)}"
    return EntryLog(
        ObjectStorageFolder(
            clients, namespace=namespace, bucket=bucket, folder=folder, stream="oci", page_size=page_size
        )
    )
