"""Logs in again and again with what a reader for Python gives; run by another interpreter, with its packages."""

import json
import os
import sys
import time

import boto3
import psycopg
from aws_advanced_python_wrapper import AwsWrapperConnection
from aws_lambda_powertools.utilities.parameters import get_secret
from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

SECRET = os.environ["LOCKSTEP_SECRET"]
AT = "host=localhost port={LEDGER_PORT} sslmode=verify-full sslrootcert={LOCKSTEP_CA}".format(**os.environ)
client = boto3.client("secretsmanager")
hour, second = (SecretCache(SecretCacheConfig(secret_refresh_interval=s), client) for s in (3600, 1))


def by_text(text: str) -> psycopg.Connection:
    login = json.loads(text)
    return psycopg.connect(AT, user=login["username"], password=login["password"])


def by_wrapper() -> AwsWrapperConnection:
    told = {"secrets_manager_secret_id": SECRET, "secrets_manager_region": client.meta.region_name}
    told |= {"plugins": "aws_secrets_manager", "wrapper_dialect": "pg"}
    return AwsWrapperConnection.connect(psycopg.Connection.connect, AT, **told)


WAYS = {
    "cached-an-hour": lambda: by_text(hour.get_secret_string(SECRET)),
    "cached-a-second": lambda: by_text(second.get_secret_string(SECRET)),
    "powertools": lambda: by_text(get_secret(SECRET, max_age=1)),
    "wrapper": by_wrapper,
}
[way] = sys.argv[1:]
while True:
    try:
        with WAYS[way]() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT session_user")
            found = f"ok {cursor.fetchone()[0]}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        found = f"failed {error}"
    sys.stdout.write(f"{way} {' '.join(found.split())}\n")
    sys.stdout.flush()
    time.sleep(0.05)
