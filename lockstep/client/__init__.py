"""For applications: the credential from the nearest store, cached, read again when a login is refused.

    from lockstep.client import CredentialClient, aws_source, connect_pymysql

    credential = CredentialClient([aws_source("multi-cloud/ledger_user", region="eu-central-1")])
    connection = connect_pymysql(credential, ssl_ca="ca.pem")

A value may be kept for as long as the plan's overlap without a login ever being refused: the previous value keeps
logging in for that long after a newer one was promoted. A refusal means that the cache is older than that, so the
stores are read once more and the login tried once more; a second refusal is the database's answer.

docs/client.md has an example for each driver. Nothing here imports a driver or an SDK before it is used.
"""

from lockstep.client.cache import ClientCredential
from lockstep.client.drivers import connect_asyncpg, connect_psycopg, connect_psycopg_async, connect_pymysql
from lockstep.client.pools import asyncpg_pool, attach_sqlalchemy, psycopg_async_pool, psycopg_pool
from lockstep.client.sources import aws_source, oci_ring_source
from lockstep.client.threads import AsyncCredentialClient, CredentialClient

__all__ = [
    "AsyncCredentialClient",
    "ClientCredential",
    "CredentialClient",
    "asyncpg_pool",
    "attach_sqlalchemy",
    "aws_source",
    "connect_asyncpg",
    "connect_psycopg",
    "connect_psycopg_async",
    "connect_pymysql",
    "oci_ring_source",
    "psycopg_async_pool",
    "psycopg_pool",
]
