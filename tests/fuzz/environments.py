"""Environments that are wrong, and what a person must be told about each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NOTHING_LISTENS = "http://127.0.0.1:1"
KEYS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret"}
CANARY = "hunter2-canary"
"""Stands where a password may stand: it must never be shown."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An environment.

    Attributes:
        variables: Those that differ from an environment in which nothing is set. `{}` is the folder of the test,
            `{server}` a server that speaks no TLS.
        files: Files in that folder.
        told: The error that every command that calls a cloud must name.
    """

    variables: Mapping[str, str]
    told: str
    files: Mapping[str, str | bytes] = field(default_factory=dict)

    def made(self, folder: Path, server: str = "") -> dict[str, str]:
        """Write its files; its variables."""
        for name, content in self.files.items():
            written = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(written.replace(b"{}", str(folder).encode()))
        return {
            name: value.replace("{}", str(folder)).replace("{server}", server)
            for name, value in self.variables.items()
        }


def _config(text: str | bytes, told: str, **more: str) -> Broken:
    variables = {"AWS_CONFIG_FILE": "{}/aws", "AWS_PROFILE": "p", **more}
    return Broken(variables=variables, files={"aws": text}, told=told)


def _with_keys(told: str, **variables: str) -> Broken:
    return Broken(variables={**KEYS, **variables}, told=told)


AWS: Mapping[str, Broken] = {
    "nothing is set": Broken(variables={}, told="AwsCredentialsMissingError"),
    "a profile that is not there": Broken(variables={"AWS_PROFILE": "prdo"}, told="AwsProfileMissingError"),
    "a profile with odd characters": Broken(
        variables={"AWS_PROFILE": f"'; {CANARY}\n"}, told="AwsProfileMissingError"
    ),
    "a default profile that is not there": Broken(
        variables={"AWS_DEFAULT_PROFILE": "prdo"}, told="AwsProfileMissingError"
    ),
    "no config file": Broken(
        variables={"AWS_CONFIG_FILE": "{}/nowhere", "AWS_PROFILE": "p"}, told="AwsProfileMissingError"
    ),
    "a folder as config": Broken(
        variables={"AWS_CONFIG_FILE": "{}", "AWS_PROFILE": "p"}, told="AwsProfileMissingError"
    ),
    "garbage as config": _config(f"password = {CANARY}\n[profile p", "AwsConfigInvalidError"),
    "bytes as config": _config(b"[profile p]\nregion=\xff\xfe", "AwsConfigInvalidError"),
    "garbage as credentials": Broken(
        variables={"AWS_SHARED_CREDENTIALS_FILE": "{}/keys"},
        files={"keys": f"{CANARY}\n[default"},
        told="AwsConfigInvalidError",
    ),
    "half a key": Broken(variables={"AWS_ACCESS_KEY_ID": "a-key"}, told="AwsCredentialsMissingError"),
    "half a key in a profile": _config("[profile p]\naws_access_key_id=a", "AwsCredentialsMissingError"),
    "a key's program that fails": _config(
        "[profile p]\ncredential_process=false", "AwsCredentialsUnavailableError"
    ),
    "a key's program that is not there": _config(
        "[profile p]\ncredential_process=/nowhere/program", "AwsConfigInvalidError"
    ),
    "a key's program that prints garbage": _config(
        f"[profile p]\ncredential_process=echo {CANARY}", "AwsConfigInvalidError"
    ),
    "a role of itself": _config(
        "[profile p]\nrole_arn=arn:aws:iam::123456789012:role/r\nsource_profile=q\n"
        "[profile q]\nrole_arn=arn:aws:iam::123456789012:role/r\nsource_profile=p",
        "AwsConfigInvalidError",
    ),
    "a role without a source": _config(
        "[profile p]\nrole_arn=arn:aws:iam::123456789012:role/r", "AwsCredentialsMissingError"
    ),
    "a role with a source that is not there": _config(
        "[profile p]\nrole_arn=arn:aws:iam::123456789012:role/r\nsource_profile=q", "AwsConfigInvalidError"
    ),
    "not logged in": _config(
        "[profile p]\nsso_session=s\nsso_account_id=123456789012\nsso_role_name=r\n"
        "[sso-session s]\nsso_region=eu-central-1\nsso_start_url=https://example.awsapps.com/start",
        "AwsSessionExpiredError",
    ),
    "half an SSO profile": _config(
        "[profile p]\nsso_account_id=123456789012\nsso_role_name=r\nsso_start_url=https://example.com",
        "AwsConfigInvalidError",
    ),
    "no token of a web identity": Broken(
        variables={
            "AWS_WEB_IDENTITY_TOKEN_FILE": "{}/nowhere",
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
        },
        told="AwsConfigInvalidError",
    ),
    "a container's keys that do not answer": Broken(
        variables={"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{NOTHING_LISTENS}/keys"},
        told="AwsCredentialsUnavailableError",
    ),
    "an endpoint that refuses": _with_keys("EndpointUnreachableError", AWS_ENDPOINT_URL=NOTHING_LISTENS),
    "an endpoint with a password": _with_keys(
        "EndpointUnreachableError", AWS_ENDPOINT_URL=f"http://me:{CANARY}@127.0.0.1:1"
    ),
    "an endpoint that is no URL": _with_keys("EndpointInvalidError", AWS_ENDPOINT_URL="not a url"),
    "an endpoint without a host": _with_keys("EndpointInvalidError", AWS_ENDPOINT_URL="http://"),
    "a proxy that refuses": _with_keys(
        "ProxyUnusableError", AWS_ENDPOINT_URL="https://aws.invalid", HTTPS_PROXY=NOTHING_LISTENS
    ),
    "a proxy with a password": _with_keys(
        "ProxyUnusableError",
        AWS_ENDPOINT_URL="https://aws.invalid",
        HTTPS_PROXY=f"http://me:{CANARY}@127.0.0.1:1",
    ),
    "a proxy of another kind": _with_keys(
        "ProxyUnusableError", AWS_ENDPOINT_URL="https://aws.invalid", HTTPS_PROXY="gopher://127.0.0.1"
    ),
    "garbage as proxy": _with_keys(
        "ProxyUnusableError", AWS_ENDPOINT_URL="https://aws.invalid", HTTPS_PROXY="http://[::"
    ),
    "no file with CAs": _with_keys(
        "CaFileMissingError", AWS_ENDPOINT_URL="https://{server}", AWS_CA_BUNDLE="{}/nowhere"
    ),
    "garbage as CAs": Broken(
        variables={**KEYS, "AWS_ENDPOINT_URL": "https://{server}", "AWS_CA_BUNDLE": "{}/ca"},
        files={"ca": "garbage"},
        told="CaFileMissingError",
    ),
    "an endpoint without TLS": _with_keys("EndpointUnreachableError", AWS_ENDPOINT_URL="https://{server}"),
    "a retry mode that there is not": _with_keys("AwsConfigInvalidError", AWS_RETRY_MODE="often"),
    "defaults that there are not": _with_keys("AwsConfigInvalidError", AWS_DEFAULTS_MODE="nice"),
    "a key with a line break": Broken(
        variables={
            "AWS_ACCESS_KEY_ID": "a\nb",
            "AWS_SECRET_ACCESS_KEY": CANARY,
            "AWS_ENDPOINT_URL": NOTHING_LISTENS,
        },
        told="AwsCredentialsRefusedError",
    ),
    "no home": Broken(variables={"HOME": ""}, told="AwsCredentialsMissingError"),
    "a home that is a device": Broken(variables={"HOME": "/dev/null"}, told="AwsCredentialsMissingError"),
    "no plan": Broken(variables={"LOCKSTEP_PLAN": "{}/nowhere"}, told="PlanMissingError"),
    "a folder as plan": Broken(variables={"LOCKSTEP_PLAN": "{}"}, told="PlanMissingError"),
}

# What AWS answers: status, type and text of the error.
ANSWERS: Mapping[str, tuple[int, str, str, str]] = {
    "an expired token": (400, "ExpiredTokenException", CANARY, "AwsSessionExpiredError"),
    "an unknown key": (400, "UnrecognizedClientException", CANARY, "AwsCredentialsRefusedError"),
    "a wrong signature": (400, "InvalidSignatureException", CANARY, "AwsCredentialsRefusedError"),
    "a wrong clock": (
        400,
        "InvalidSignatureException",
        "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z",
        "ClockSkewError",
    ),
    "a right that is missing": (
        400,
        "AccessDeniedException",
        "User: arn:aws:iam::123456789012:user/u is not authorized to perform: dynamodb:GetItem on resource: r",
        "AwsActionDeniedError",
    ),
    "a right that is missing, untold": (403, "AccessDenied", CANARY, "AwsActionDeniedError"),
    "a table that is missing": (400, "ResourceNotFoundException", CANARY, "LockTableMissingError"),
}

_PRIVATE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(protection: serialization.KeySerializationEncryption) -> bytes:
    return _PRIVATE_KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, protection
    )


_KEY = _pem(serialization.NoEncryption())
_LOCKED_KEY = _pem(serialization.BestAvailableEncryption(CANARY.encode()))
_OCI = {
    "user": "ocid1.user.oc1..a",
    "tenancy": "ocid1.tenancy.oc1..a",
    "region": "eu-frankfurt-1",
    "fingerprint": ":".join(["0a"] * 16),
    "key_file": "{}/key",
}


def _oci(told: str, text: str | bytes | None = None, *, key: bytes = _KEY, **fields: str) -> Broken:
    """A config with other fields than it should have; an empty one is left out."""
    lines = [f"{name}={value}" for name, value in {**_OCI, **fields}.items() if value]
    return Broken(
        variables={"OCI_CONFIG_FILE": "{}/oci", "LOCKSTEP_OCI_ENDPOINT": NOTHING_LISTENS},
        files={"oci": "\n".join(["[DEFAULT]", *lines]) if text is None else text, "key": key},
        told=told,
    )


OCI: Mapping[str, Broken] = {
    "no config": Broken(variables={"OCI_CONFIG_FILE": "{}/nowhere"}, told="OciConfigInvalidError"),
    "a folder as config": Broken(variables={"OCI_CONFIG_FILE": "{}"}, told="OciConfigInvalidError"),
    "garbage as config": _oci("OciConfigInvalidError", f"{CANARY}\n"),
    "bytes as config": _oci("OciConfigInvalidError", b"[DEFAULT]\nuser=\xff\xfe"),
    "nothing as config": _oci("OciConfigInvalidError", ""),
    "another profile": _oci("OciConfigInvalidError", "[OTHER]\nuser=a"),
    "no key": _oci("OciConfigInvalidError", key_file=""),
    "no fingerprint": _oci("OciConfigInvalidError", fingerprint=""),
    "a fingerprint that is none": _oci("OciConfigInvalidError", fingerprint=CANARY),
    "a user that is none": _oci("OciConfigInvalidError", user=CANARY),
    "a tenancy that is none": _oci("OciConfigInvalidError", tenancy=CANARY),
    "a key file that is not there": _oci("OciKeyUnreadableError", key_file="/nowhere"),
    "a key file that is a folder": _oci("OciKeyUnreadableError", key_file="/"),
    "garbage as key": _oci("OciKeyUnreadableError", key=CANARY.encode()),
    "a key with a passphrase": _oci("OciKeyUnreadableError", key=_LOCKED_KEY),
    "a wrong passphrase": _oci("OciKeyUnreadableError", key=_LOCKED_KEY, pass_phrase="wrong"),
    "an endpoint that refuses": _oci("EndpointUnreachableError"),
}
