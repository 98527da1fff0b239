"""The identity that OCI's own tools would find where a process runs, by the SDK's own signers.

Names of variables and of fields are the SDK's and the CLI's (https://github.com/oracle/oci-cli, `cli_util.py`,
`cli_constants.py`).
"""

import configparser
import os
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.request import ProxyHandler, Request, build_opener

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from oci.auth import signers  # type: ignore[import-untyped]  # likewise

from lockstep.oci.clients import OciIdentity, Untyped, config_problem, diagnose
from lockstep.protocol.errors import Environment, EnvironmentalError, StoreAccessDeniedError
from lockstep.protocol.federation import stamps_of

_FILES: Final = ("key_file", "security_token_file", "delegation_token_file")
"""Fields of a profile that name files."""
_SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount/token"
_INSTANCE: Final = signers.InstancePrincipalsSecurityTokenSigner
_METADATA: Final = (_INSTANCE.DEFAULT_METADATA_URL_BASE, _INSTANCE.DEFAULT_METADATA_URL_BASE_IPV6)
_METADATA_SECONDS: Final = 1.0
"""It answers within milliseconds. Elsewhere nothing may be at its address, or another cloud's metadata."""


def own_identity(*, endpoint: str | None = None) -> OciIdentity:
    """Who this process is in OCI: the first of these that is there, whether it is of use or not.

    1. The profile OCI_CONFIG_PROFILE, or `DEFAULT`, of the file OCI_CONFIG_FILE: an API key; a session token
       (`security_token_file`); or what `authentication_type` names, `instance_principal`, `resource_principal` or
       `oke_workload_identity`. Cloud Shell sets both variables, and its profile is an `instance_principal` with a
       `delegation_token_file` (`oci.util`).
    2. Where OCI_RESOURCE_PRINCIPAL_VERSION is set: the workload identity of a pod of OKE, which has the token of a
       service account; without one, the resource principal of a function.
    3. The same profile of `~/.oci/config`.
    4. The instance principal, where OCI's instance metadata answers.

    It is the order of Oracle's own tools: a config that is named, the resource principal, the instance principal
    (https://github.com/oracle/ocifs, `OCIFileSystem`), and the default file where there is no resource principal
    (https://github.com/oracle/accelerated-data-science, `ads.common.auth`).

    Args:
        endpoint: Where OCI gives sessions to instances; by default its own for the instance's region.

    Raises:
        StoreAccessDeniedError: There is none (code `no-identity`), or it is not usable.
    """
    if file := os.environ.get("OCI_CONFIG_FILE"):
        return _of_profile(file, endpoint)
    if "OCI_RESOURCE_PRINCIPAL_VERSION" in os.environ:
        return OciIdentity(config={}, signer=_resource_principal())
    if Path(oci.config.DEFAULT_LOCATION).expanduser().is_file():
        return _of_profile(oci.config.DEFAULT_LOCATION, endpoint)
    if _has_metadata():
        return OciIdentity(config={}, signer=_instance_principal(endpoint))
    raise StoreAccessDeniedError(code="no-identity") from EnvironmentalError(Environment.OCI_IDENTITY_MISSING)


def _of_profile(file: str, endpoint: str | None) -> OciIdentity:
    try:
        config = oci.config.from_file(file, os.environ.get("OCI_CONFIG_PROFILE", oci.config.DEFAULT_PROFILE))
        files = stamps_of(file, *(config[name] for name in _FILES if name in config))
        signer = _signer_of(config, endpoint)
    except (oci.exceptions.ClientError, configparser.Error, ValueError, LookupError, OSError) as error:
        raise StoreAccessDeniedError(code=type(error).__name__) from config_problem(error)
    # Requests that are logged show what they carry.
    return OciIdentity(config={**config, "log_requests": False}, signer=signer, files=files)


def _signer_of(config: dict[str, str], endpoint: str | None) -> Untyped:
    """What signs for a profile; None: its API key, which is a client's own to read."""
    match config.get("authentication_type"):
        case "instance_principal":
            file = config.get("delegation_token_file")
            return _instance_principal(endpoint, **({"delegation_token": _text(file)} if file else {}))
        case "resource_principal" | "oke_workload_identity":
            return _resource_principal()
    if token := config.get("security_token_file"):
        key = oci.signer.load_private_key_from_file(config["key_file"], config["pass_phrase"])
        return signers.SecurityTokenSigner(_text(token), key)
    # The region is the plan's.
    oci.config.validate_config({"region": "", **config})
    return None


def _text(file: str) -> str:
    return Path(file).expanduser().read_text(encoding="ascii").strip()


# The SDK's retries are off, as for every client, and so is its circuit breaker, which all instances would share.


def _resource_principal() -> Untyped:
    token = os.environ.get("OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH", _SERVICE_ACCOUNT)
    if not Path(token).is_file():
        return _made(signers.get_resource_principals_signer)
    of_pod = signers.get_oke_workload_identity_resource_principal_signer
    return _made(of_pod, service_account_token_path=token, retry_strategy=oci.retry.NoneRetryStrategy())


def _instance_principal(endpoint: str | None, **delegation: str) -> Untyped:
    return _made(
        signers.InstancePrincipalsDelegationTokenSigner if delegation else _INSTANCE,
        federation_endpoint=f"{endpoint}/v1/x509" if endpoint else None,
        retry_strategy=oci.retry.NoneRetryStrategy(),
        federation_client_retry_strategy=oci.retry.NoneRetryStrategy(),
        federation_client_circuit_breaker_strategy=oci.circuit_breaker.NoCircuitBreakerStrategy(),
        **delegation,
    )


def _made(signer: Callable[..., Untyped], **options: Untyped) -> Untyped:
    try:
        return signer(**options)
    except Exception as error:  # noqa: BLE001 - also what PyJWT and requests raise, and a plain RuntimeError
        code = diagnose(error)[1]
        problem = EnvironmentalError(Environment.OCI_PRINCIPAL_UNAVAILABLE, code=code)
        raise StoreAccessDeniedError(code=code) from problem


def _has_metadata() -> bool:
    named = os.environ.get(_INSTANCE.METADATA_URL_BASE_ENV_VAR, "").strip()
    for base in [named] if named else _METADATA:
        with suppress(OSError, ValueError, HTTPException):
            asked = Request(f"{base}/instance/region", headers=_INSTANCE.METADATA_AUTH_HEADERS)  # noqa: S310 - the SDK's own address, or the environment's
            # A proxy is another machine, and may answer anything.
            with build_opener(ProxyHandler({})).open(asked, timeout=_METADATA_SECONDS):
                return True
    return False
