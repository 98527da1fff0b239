"""A rotation function with one password: between setSecret and finishSecret what is current is refused."""

import json
import os
from typing import Any

import boto3
import pymysql


def lambda_handler(event: dict[str, str], _context: object) -> None:
    """One of the steps of Secrets Manager."""
    secrets: Any = boto3.client("secretsmanager", endpoint_url=os.environ["SECRETS_MANAGER_ENDPOINT"])
    name, token, step = event["SecretId"], event["ClientRequestToken"], event["Step"]
    stages = secrets.describe_secret(SecretId=name)["VersionIdsToStages"]
    [current] = [version for version in stages if "AWSCURRENT" in stages[version]]
    now = json.loads(secrets.get_secret_value(SecretId=name, VersionId=current)["SecretString"])
    if step == "createSecret":
        text, pending = json.dumps({**now, "password": token}), ["AWSPENDING"]
        secrets.put_secret_value(
            SecretId=name, ClientRequestToken=token, SecretString=text, VersionStages=pending
        )
    if step == "setSecret":
        login: dict[str, Any] = {"host": now["host"], "port": now["port"], "user": now["username"]}
        with (
            pymysql.connect(**login, password=now["password"], ssl={"ca": "/nowhere"}) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SET PASSWORD = PASSWORD(%s)", (token,))
    if step == "finishSecret":
        secrets.update_secret_version_stage(
            SecretId=name, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current
        )
