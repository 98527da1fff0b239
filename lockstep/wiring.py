"""The composition root: builds the ports of one rotation from the plan, for one runner.

The only place that knows which adapter serves which port. Clients are made once per process and used again.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockstep.contents import decode_app_user
from lockstep.errors import AdminCredentialRejectedError, InvalidRequestError
from lockstep.model import Login
from lockstep.plan import AwsSecretsManager, Credential, DatabaseServer, Plan, StoreConfig, load_plan
from lockstep.ports import Database, Ports, Store
from lockstep.system import SystemClock, SystemPasswords

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

PLAN_VARIABLE = "LOCKSTEP_PLAN"
"""The environment variable that holds the path of the plan file."""


@cache
def plan_from_environment() -> Plan:
    """The plan that this process runs with, read once."""
    return load_plan(Path(os.environ.get(PLAN_VARIABLE, "lockstep.yaml")))


def forget() -> None:
    """Forget plan and clients, so that a changed environment counts."""
    plan_from_environment.cache_clear()
    _client.cache_clear()


def aws_ports(credential_id: str) -> Ports:
    """The ports of the AWS runner, from the environment's plan."""
    return build_aws_ports(plan_from_environment(), credential_id)


def build_aws_ports(plan: Plan, credential_id: str) -> Ports:
    """The ports of the AWS runner.

    Raises:
        InvalidRequestError: The plan has no such credential.
    """
    from lockstep.aws.dynamodb_lock import DynamoDbLock
    from lockstep.aws.kms import KmsSigner
    from lockstep.aws.s3_audit import S3AuditLog

    credential = _credential(plan, credential_id)
    audit = plan.audit.aws
    return Ports(
        runner="aws",
        credential=credential,
        stores=[_store(config, credential) for config in plan.stores],
        databases={s.name: _database(plan, s, credential) for s in credential.servers},
        lock=DynamoDbLock(_client("dynamodb", plan.lock.region), plan.lock.table, credential.id),
        audit_log=S3AuditLog(
            _client("s3", audit.region), audit.bucket, "aws", credential.id, audit.storage_class
        ),
        signer=KmsSigner(_client("kms", audit.region), audit.mac_key),
        clock=SystemClock(),
        passwords=SystemPasswords(),
    )


def _credential(plan: Plan, credential_id: str) -> Credential:
    credential = plan.credential(credential_id)
    if credential is None:
        raise InvalidRequestError(credential=credential_id)
    return credential


@cache
def _client(service: str, region: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' types at run time
    from lockstep.aws.clients import aws_client

    return aws_client(service, region)


def _store(config: StoreConfig, credential: Credential) -> Store:
    from lockstep.aws.secrets_manager import SecretsManagerStore

    return SecretsManagerStore(_client("secretsmanager", config.region), config.name, credential)


def _database(plan: Plan, server: DatabaseServer, credential: Credential) -> Database:
    from lockstep.databases import open_database

    return open_database(server, credential, _admin(plan, server))


def _admin(plan: Plan, server: DatabaseServer) -> Callable[[], Login]:
    store = plan.store(AwsSecretsManager) or plan.stores[0]

    def read() -> Login:
        from lockstep.aws.secrets_manager import read_secret

        client: SecretsManagerClient = _client("secretsmanager", store.region)
        login, _ = decode_app_user(
            read_secret(client, store.name, server.admin_secret), store=store.name, secret=server.admin_secret
        )
        if login is None:
            raise AdminCredentialRejectedError(database=server.name)
        return login

    return read
