"""Logs in again and again with what readers for Python give; run by another interpreter, with their packages."""

import json
import os
import sys
import time

import aws_advanced_python_wrapper
import boto3
import psycopg
import pymysql
from aws_lambda_powertools.utilities import parameters
from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

SECRET, CA = os.environ["LOCKSTEP_SECRET"], os.environ["LOCKSTEP_CA"]
client = boto3.client("secretsmanager")
hour, second = (SecretCache(SecretCacheConfig(secret_refresh_interval=s), client) for s in (3600, 1))


def by_wrapper() -> str:
    where = f"host=localhost port={os.environ['LEDGER_PORT']} dbname={os.environ['PGDATABASE']} sslmode=verify-full"
    with (
        aws_advanced_python_wrapper.AwsWrapperConnection.connect(
            psycopg.Connection.connect,
            f"{where} sslrootcert={CA}",
            plugins="aws_secrets_manager",
            secrets_manager_secret_id=SECRET,
            secrets_manager_region=os.environ["AWS_DEFAULT_REGION"],
            wrapper_dialect="pg",
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT session_user")
        return cursor.fetchone()[0]


def by_text(text: str) -> str:
    at = json.loads(text)
    with (
        pymysql.connect(
            user=at["username"], password=at["password"], host=at["host"], port=int(at["port"]), ssl_ca=CA
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT SUBSTRING_INDEX(USER(), '@', 1)")
        return cursor.fetchone()[0]


WAYS = {
    "boto3": lambda: by_text(client.get_secret_value(SecretId=SECRET)["SecretString"]),
    "cached-an-hour": lambda: by_text(hour.get_secret_string(SECRET)),
    "cached-a-second": lambda: by_text(second.get_secret_string(SECRET)),
    "powertools": lambda: by_text(parameters.get_secret(SECRET, max_age=1)),
    "wrapper": by_wrapper,
}
while True:
    for way in sys.argv[1:]:
        try:
            found = f"{way} ok {WAYS[way]()}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            found = f"{way} failed {error}".replace("\n", " ")
        sys.stdout.write(f"{found}\n")
        sys.stdout.flush()
    time.sleep(0.05)
