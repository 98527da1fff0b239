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
CONFIG, PROFILE, PLAN = "AwsConfigInvalidError", "AwsProfileMissingError", "PlanMissingError"
NO_KEYS, NO_ANSWER = "AwsCredentialsMissingError", "AwsCredentialsUnavailableError"
PROXY, CA, UNREACHABLE = "ProxyUnusableError", "CaFileMissingError", "EndpointUnreachableError"


@dataclass(frozen=True)
class Broken:
    """An environment.

    Attributes:
        told: The error that every command that calls a cloud must name.
        variables: Those that differ from an environment in which nothing is set. `{}` is the folder of the test,
            `{server}` a server that speaks no TLS.
        files: Files in that folder.
    """

    told: str
    variables: Mapping[str, str]
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


ROLE = "role_arn=arn:aws:iam::123456789012:role/r"
SSO = "sso_account_id=123456789012\nsso_role_name=r\n"
SESSION = "[sso-session s]\nsso_region=eu-central-1\nsso_start_url=https://example.awsapps.com/start"
PROFILES: Mapping[str, tuple[str, str | bytes]] = {
    "garbage as config": (CONFIG, f"password = {CANARY}\n[profile p"),
    "bytes as config": (CONFIG, b"[profile p]\nregion=\xff\xfe"),
    "half a key in a profile": (NO_KEYS, "[profile p]\naws_access_key_id=a"),
    "a key's program that fails": (NO_ANSWER, "[profile p]\ncredential_process=false"),
    "a key's program that is not there": (CONFIG, "[profile p]\ncredential_process=/nowhere/program"),
    "a key's program that prints garbage": (CONFIG, f"[profile p]\ncredential_process=echo {CANARY}"),
    "a role without a source": (NO_KEYS, f"[profile p]\n{ROLE}"),
    "a role with a source that is not there": (CONFIG, f"[profile p]\n{ROLE}\nsource_profile=q"),
    "half an SSO profile": (CONFIG, f"[profile p]\n{SSO}sso_start_url=https://example.com"),
    "not logged in": ("AwsSessionExpiredError", f"[profile p]\nsso_session=s\n{SSO}{SESSION}"),
}
VARIABLES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "nothing is set": (NO_KEYS, {}),
    "a profile that is not there": (PROFILE, {"AWS_PROFILE": "prdo"}),
    "a profile with odd characters": (PROFILE, {"AWS_PROFILE": f"'; {CANARY}\n"}),
    "a folder as config": (PROFILE, {"AWS_CONFIG_FILE": "{}", "AWS_PROFILE": "p"}),
    "half a key": (NO_KEYS, {"AWS_ACCESS_KEY_ID": "a-key"}),
    "no token of a web identity": (
        *(
            CONFIG,
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "{}/nowhere", "AWS_ROLE_ARN": ROLE.removeprefix("role_arn=")},
        ),
    ),
    "a container's keys that do not answer": (
        *(NO_ANSWER, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{NOTHING_LISTENS}/keys"}),
    ),
    "a home that is a device": (NO_KEYS, {"HOME": "/dev/null"}),
    "a folder as plan": (PLAN, {"LOCKSTEP_PLAN": "{}"}),
    "a key with a line break": (
        "AwsCredentialsRefusedError",
        {"AWS_ACCESS_KEY_ID": "a\nb", "AWS_SECRET_ACCESS_KEY": CANARY, "AWS_ENDPOINT_URL": NOTHING_LISTENS},
    ),
}
WITH_PASSWORD = f"http://me:{CANARY}@127.0.0.1:1"
ENDPOINTS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "an endpoint that refuses": (UNREACHABLE, NOTHING_LISTENS, {}),
    "an endpoint with a password": (UNREACHABLE, WITH_PASSWORD, {}),
    "an endpoint that is no URL": ("EndpointInvalidError", "not a url", {}),
    "an endpoint without TLS": (UNREACHABLE, "https://{server}", {}),
    "a proxy that refuses": (PROXY, "https://aws.invalid", {"HTTPS_PROXY": NOTHING_LISTENS}),
    "a proxy with a password": (PROXY, "https://aws.invalid", {"HTTPS_PROXY": WITH_PASSWORD}),
    "a proxy of another kind": (PROXY, "https://aws.invalid", {"HTTPS_PROXY": "gopher://127.0.0.1"}),
    "garbage as proxy": (PROXY, "https://aws.invalid", {"HTTPS_PROXY": "http://[::"}),
    "no file with CAs": (CA, "https://{server}", {"AWS_CA_BUNDLE": "{}/nowhere"}),
    "garbage as CAs": (CA, "https://{server}", {"AWS_CA_BUNDLE": "{}/garbage"}),
    "a retry mode that there is not": (CONFIG, "", {"AWS_RETRY_MODE": "often"}),
}
GARBAGE = {"garbage": f"{CANARY}\n[default"}
AWS: Mapping[str, Broken] = {
    **{
        name: Broken(told, {"AWS_CONFIG_FILE": "{}/aws", "AWS_PROFILE": "p"}, {"aws": text})
        for name, (told, text) in PROFILES.items()
    },
    **{name: Broken(told, variables) for name, (told, variables) in VARIABLES.items()},
    "garbage as credentials": Broken(CONFIG, {"AWS_SHARED_CREDENTIALS_FILE": "{}/garbage"}, GARBAGE),
    **{
        name: Broken(told, {**KEYS, **({"AWS_ENDPOINT_URL": url} if url else {}), **more}, GARBAGE)
        for name, (told, url, more) in ENDPOINTS.items()
    },
}

# What AWS answers: status, type and text of the error.
REFUSED, DENIED = "AwsCredentialsRefusedError", "AwsActionDeniedError"
EARLY = "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z"
NOT_AUTHORIZED = "User: arn:aws:iam::123456789012:user/u is not authorized to perform: dynamodb:GetItem on: r"
ANSWERS: Mapping[str, tuple[int, str, str, str]] = {
    "an expired token": (400, "ExpiredTokenException", CANARY, "AwsSessionExpiredError"),
    "an unknown key": (400, "UnrecognizedClientException", CANARY, REFUSED),
    "a wrong signature": (400, "InvalidSignatureException", CANARY, REFUSED),
    "a wrong clock": (400, "InvalidSignatureException", EARLY, "ClockSkewError"),
    "a right that is missing": (400, "AccessDeniedException", NOT_AUTHORIZED, DENIED),
    "a right that is missing, untold": (403, "AccessDenied", CANARY, DENIED),
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
    variables = {"OCI_CONFIG_FILE": "{}/oci", "LOCKSTEP_OCI_ENDPOINT": NOTHING_LISTENS}
    return Broken(
        told, variables, {"oci": "\n".join(["[DEFAULT]", *lines]) if text is None else text, "key": key}
    )


OCI_CONFIG, OCI_KEY = "OciConfigInvalidError", "OciKeyUnreadableError"
OCI: Mapping[str, Broken] = {
    "no config": Broken(OCI_CONFIG, {"OCI_CONFIG_FILE": "{}/nowhere"}),
    "a folder as config": Broken(OCI_CONFIG, {"OCI_CONFIG_FILE": "{}"}),
    "garbage as config": _oci(OCI_CONFIG, f"{CANARY}\n"),
    "bytes as config": _oci(OCI_CONFIG, b"[DEFAULT]\nuser=\xff\xfe"),
    "another profile": _oci(OCI_CONFIG, "[OTHER]\nuser=a"),
    "no key": _oci(OCI_CONFIG, key_file=""),
    "a fingerprint that is none": _oci(OCI_CONFIG, fingerprint=CANARY),
    "a user that is none": _oci(OCI_CONFIG, user=CANARY),
    "a key file that is not there": _oci(OCI_KEY, key_file="/nowhere"),
    "garbage as key": _oci(OCI_KEY, key=CANARY.encode()),
    "a key with a passphrase": _oci(OCI_KEY, key=_LOCKED_KEY),
    "a wrong passphrase": _oci(OCI_KEY, key=_LOCKED_KEY, pass_phrase="wrong"),
    "an endpoint that refuses": _oci(UNREACHABLE),
}
