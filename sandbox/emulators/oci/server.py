"""OCI on loopback: one HTTP server that the unmodified SDK talks to, with all services and the identity domain.

What anyone may read in Object Storage is also at the service's own name, over HTTPS, see `names`.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC
from email.utils import format_datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, Literal, Self, TypeVar

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.emulators.oci.calls import Call, CallLog, CallRecord, Service, Target, target_of
from sandbox.emulators.oci.clock import Ids, SandboxClock, real_time
from sandbox.emulators.oci.deployment import Deployment, DeploymentService, InvocationService
from sandbox.emulators.oci.errors import ApiError, not_authenticated
from sandbox.emulators.oci.faults import Effect, Fault, Faults
from sandbox.emulators.oci.identity import REGION, Credential, Identity, Principal, new_private_key
from sandbox.emulators.oci.identity_domain import IdentityDomain
from sandbox.emulators.oci.keys import KeysService
from sandbox.emulators.oci.names import Names
from sandbox.emulators.oci.notifications import NotificationsService
from sandbox.emulators.oci.object_storage import NAMESPACE, ObjectStorageService
from sandbox.emulators.oci.principals import POD_PORT, PrincipalService
from sandbox.emulators.oci.signatures import signer_of
from sandbox.emulators.oci.vault import RetrievalService, VaultService
from sandbox.emulators.oci.wire import HttpServer, Reply, Request

Hook = Callable[[Literal["before", "after"], str, str], None]

_ADMINISTRATOR: Final = "administrator"
_SESSION: Final = "ST$"
_ANYONE: Final = Principal("anyone", "")
OBJECT_STORAGE_HOST: Final = f"objectstorage.{REGION}.oraclecloud.com"
ClientT = TypeVar("ClientT")


class OciSandbox:
    """OCI, as far as Lockstep needs it.

    Attributes:
        clock: The emulator's time.
        identity_clock: What sessions and tokens go by, as their clients do. Where no clock is given it is
            real time, and apart from `clock`, which is moved ahead for archives.
        names: Where names are served and read over HTTPS.
        identity: Principals, their API keys and their permissions.
        domain: Gives sessions to workloads of elsewhere.
        keys: The keys of the vaults; `key_id` is one of them.
        vault: Management of secrets, with its `behaviour`.
        storage: Object Storage.
        deployment: What else is there, for reading.
        notifications: Topics, and what was published to them.
        functions: What answers calls of functions.
        faults: What is to go wrong.
        calls: Every call so far, without what it carried.
        on_call: Called with `before` or `after`, the operation and the resource, outside all locks; it may call
            the sandbox itself. `after` comes once the effect is there and before the reply is sent.
        tenancy_id, compartment_id, vault_id, key_id, namespace: What tests name in their requests.
        own_compartment_id: Beside it: where the secrets are that Lockstep only reads, and its audit log.
    """

    def __init__(self, clock: SandboxClock | None = None, names: Names | None = None) -> None:
        """Set up the services; nothing listens before `start`.

        Args:
            clock: The emulator's time; real time by default.
            names: Shared with whoever reads OCI by name, or is read by it; by default its own.
        """
        ids = Ids()
        self.clock = clock or SandboxClock(real_time)
        self.identity_clock = clock or SandboxClock(real_time)
        self.names = names or Names()
        self._own_names = names is None
        self.identity = Identity()
        self.domain = IdentityDomain(self.identity_clock, ids, self.identity, self.names.fetch)
        self.keys = KeysService(self.clock, ids)
        self.vault = VaultService(self.clock, ids)
        self.notifications = NotificationsService(self.clock, ids)
        self.faults = Faults()
        self.calls = CallLog()
        self.on_call: Hook | None = None
        self.compartment_id = ids.ocid("compartment")
        self.own_compartment_id = "ocid1.compartment.oc1..lockstep"
        self.vault_id = ids.ocid("vault")
        self.key_id = self.keys.new_key(self.compartment_id, self.vault_id, algorithm="AES", bits=256).ocid
        self.namespace = NAMESPACE
        self.vault.vaults.add(self.vault_id)
        self.identity.principal(_ADMINISTRATOR).is_administrator = True
        self.deployment = Deployment()
        self._ids = ids
        self._administrator = self.identity.new_api_key(_ADMINISTRATOR, _administrators_key())
        self._server = HttpServer(self.respond)
        self.storage = ObjectStorageService(self.clock, ids, self._serve_by_name)
        self.functions = InvocationService(self.deployment)
        # An operation is the method of its name.
        self._services: dict[Service, tuple[object, AbstractContextManager[object]]] = {
            "vault": (self.vault, self.vault.lock),
            "secrets": (RetrievalService(self.vault), self.vault.lock),
            "kms": (self.keys, self.vault.lock),
            # It reads an issuer's keys, perhaps from Object Storage.
            "identitydomain": (self.domain, nullcontext()),
            "objectstorage": (self.storage, self.storage.lock),
            "deployment": (DeploymentService(self.deployment), self.vault.lock),
            "ons": (self.notifications, self.notifications.lock),
            # A function calls the other services while it is called.
            "functions": (self.functions, nullcontext()),
            "auth": (PrincipalService(self.domain, self.identity_clock), nullcontext()),
        }
        self._pods: HttpServer | None = None

    # ---- life

    def start(self) -> Self:
        """Listen on loopback; on the same port again after a stop, with everything as it was."""
        self._server.start()
        if self.storage.has_public_bucket:
            self._serve_by_name()
        return self

    def serve_pods(self, host: str) -> Path:
        """Listen where pods of OKE get their sessions, by TLS at a loopback address; the file of its authority."""
        if self._pods is None:
            self.names.serve(host, lambda _: Reply(404))
            context = self.names.context_of(host)
            self._pods = HttpServer(self.respond, host=host, port=POD_PORT, context=context)
            self._pods.start()
        return self.names.ca_file

    def stop(self) -> None:
        """Lift all faults, cut all connections and listen no more."""
        self.faults.clear()
        self._server.stop()
        if self._pods:
            self._pods.stop()
        if self._own_names:
            self.names.stop()
        else:
            self.names.forget(OBJECT_STORAGE_HOST)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- for its callers

    @property
    def endpoint(self) -> str:
        """The `service_endpoint` of every client."""
        return f"http://127.0.0.1:{self._server.port}"

    def config(self) -> dict[str, str]:
        """An SDK config that may do everything."""
        return dict(self._administrator)

    def new_api_key(
        self,
        principal_name: str,
        *permissions: str,
        resource: str | None = None,
        compartment: str | None = None,
    ) -> dict[str, str]:
        """An SDK config for a principal, who gets the permissions on top of those it has.

        Args:
            principal_name: Whose key it is; unknown names become new principals without permissions.
            permissions: OCI's names, e.g. `SECRET_READ`.
            resource: A secret's OCID or a bucket's name to which they are limited.
            compartment: The compartment to which they are limited.
        """
        self.identity.permit(principal_name, *permissions, resource=resource, compartment=compartment)
        return self.identity.new_api_key(principal_name)

    def client(
        self,
        kind: Callable[..., ClientT],
        config: dict[str, str] | None = None,
        *,
        timeout_seconds: float = 10,
    ) -> ClientT:
        """An SDK client that neither retries nor breaks its circuit, with explicit time-outs.

        Args:
            kind: A class of the SDK's, such as `oci.vault.VaultsClient`.
            config: The signer; by default the administrator.
            timeout_seconds: To connect, and to wait for an answer.
        """
        config = config or self.config()
        return kind(
            config,
            signer=_signer(config["tenancy"], config["user"], config["fingerprint"], config["key_content"]),
            service_endpoint=self.endpoint,
            retry_strategy=oci.retry.NoneRetryStrategy(),
            circuit_breaker_strategy=oci.circuit_breaker.NoCircuitBreakerStrategy(),
            timeout=(timeout_seconds, timeout_seconds),
        )

    # ---- a call's way

    def respond(self, request: Request) -> Reply | None:
        """Serve one request; None: close the connection without an answer."""
        try:
            target = target_of(request)
        except ApiError as error:
            return self._refusal(request, error, None)
        self._tell("before", target)
        fault = self.faults.strike(target)
        if fault is not None and fault.effect is Effect.HANG:
            fault.wait_until_lifted()
        if fault is not None and fault.effect in {Effect.HANG, Effect.DROP_REQUEST}:
            self._note(target, None, None)
            return None
        principal, reply = self._answer(request, target, fault)
        self._tell("after", target)
        if fault is not None and fault.effect is Effect.DROP_REPLY:
            self._note(target, principal, None)
            return None
        self._note(target, principal, reply.status)
        if fault is not None:
            is_cut = fault.effect is Effect.CUT
            reply = replace(reply, is_cut=is_cut, trickle_seconds=fault.trickle_seconds)
        return reply

    def _answer(
        self, request: Request, target: Target, fault: Fault | None
    ) -> tuple[Principal | None, Reply]:
        principal = None
        try:
            if fault is not None and fault.error is not None:
                raise fault.error
            if fault is not None and fault.reply is not None:
                return None, fault.reply
            principal = self._caller(request, target)
            service, lock = self._services[target.route.service]
            operation: Callable[[Call], Reply] = getattr(service, target.route.operation)
            with lock:
                reply = operation(Call(target, request, principal))
        except ApiError as error:
            return principal, self._refusal(request, error, target)
        return principal, Reply(reply.status, {**reply.headers, **self._tracing(request, target)}, reply.body)

    def _caller(self, request: Request, target: Target) -> Principal:
        route = target.route
        if route.is_unsigned or (route.may_be_unsigned and "authorization" not in request.headers):
            return _ANYONE
        signer = signer_of(request, self._credential, now=real_time(), covers_body=route.covers_body)
        if (token := request.headers.get("opc-obo-token")) is None:
            return signer
        user = self.domain.session(token)
        if user is None or signer.kind != "instance":
            raise not_authenticated("The delegation token is not valid, or not an instance's to bring.")
        return user.principal

    def _credential(self, key_id: str) -> Credential | None:
        if key_id.startswith(_SESSION):
            return self.domain.session(key_id.removeprefix(_SESSION))
        return self.identity.api_key(key_id)

    def _serve_by_name(self) -> None:
        self.names.serve(OBJECT_STORAGE_HOST, self._answer_by_name)

    def _answer_by_name(self, target: str) -> Reply:
        return self.respond(Request("GET", target, {})) or Reply(503)

    def _refusal(self, request: Request, error: ApiError, target: Target | None) -> Reply:
        names = ("error", "error_description") if _is_of_domain(target) else ("code", "message")
        body = json.dumps(dict(zip(names, (error.code, error.message), strict=True))).encode()
        return Reply(
            error.status, {"content-type": "application/json", **self._tracing(request, target)}, body
        )

    def _tracing(self, request: Request, target: Target | None) -> dict[str, str]:
        asked = request.headers.get("opc-request-id")
        own = self._ids.request()
        headers = {"opc-request-id": f"{asked}/{own}" if asked else own}
        now = self.identity_clock.now() if _is_of_domain(target) else real_time()
        headers["date"] = format_datetime(now.astimezone(UTC), usegmt=True)
        if (client := request.headers.get("opc-client-request-id")) is not None:
            headers["opc-client-request-id"] = client
        return headers

    def _tell(self, when: Literal["before", "after"], target: Target) -> None:
        if self.on_call is not None:
            self.on_call(when, target.route.operation, target.resource)

    def _note(self, target: Target, principal: Principal | None, status: int | None) -> None:
        name = principal.name if principal else None
        self.calls.add(
            CallRecord(target.route.service, target.route.operation, target.resource, name, status)
        )


def _is_of_domain(target: Target | None) -> bool:
    return target is not None and target.route.service == "identitydomain"


# Making one takes as long as a hundred calls, and every sandbox needs it: one a process will do.
@cache
def _administrators_key() -> rsa.RSAPrivateKey:
    return new_private_key()


# The SDK proves a private key anew for each client, which takes as long as thirty calls.
@lru_cache
def _signer(tenancy: str, user: str, fingerprint: str, key_content: str) -> oci.signer.Signer:
    return oci.signer.Signer(tenancy, user, fingerprint, None, private_key_content=key_content)
