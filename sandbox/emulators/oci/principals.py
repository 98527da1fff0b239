"""Who machines are: where an instance and a pod of OKE get their sessions.

Paths, headers and fields are those that the SDK's signers ask for (`oci.auth`). What Oracle leaves open is strict here:
that a certificate's whole chain is verified, and that the metadata refuses who does not bring its header.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import trustme
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.x509 import Certificate, load_der_x509_certificate, load_pem_x509_certificate

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.clock import SandboxClock, real_time
from sandbox.emulators.oci.errors import not_authenticated, not_found
from sandbox.emulators.oci.identity import REGION, TENANCY, Credential, Principal
from sandbox.emulators.oci.identity_domain import IdentityDomain, session_key
from sandbox.emulators.oci.signatures import signer_of
from sandbox.emulators.oci.wire import Reply, json_reply

INSTANCE: Final = "ocid1.instance.oc1..sandbox"
SERVICE_ACCOUNT: Final = "system:serviceaccount:"
POD_PORT: Final = 12250


@dataclass(frozen=True, slots=True)
class PrincipalService:
    """Gives the sessions of the tenancy's instance, and of workloads by the tokens of their service accounts.

    Attributes:
        domain: Issues them.
        clock: Certificates are judged by it.
    """

    domain: IdentityDomain
    clock: SandboxClock

    def get_metadata(self, call: Call) -> Reply:
        """Serve GetMetadata."""
        if call.headers.get("authorization") != "Bearer Oracle":
            raise not_authenticated("Version 2 of the metadata asks for its header.")
        if (found := _documents().get(call.path["object"])) is None:
            raise not_found()
        return Reply(200, {"content-type": "text/plain"}, found)

    def exchange_certificate(self, call: Call) -> Reply:
        """Serve ExchangeCertificate."""
        try:
            body = json.loads(call.request.body)
            public_key = str(body["publicKey"])
            leaf, above = map(_certificate, (body["certificate"], *body["intermediateCertificates"]))
            leaf.verify_directly_issued_by(above)
            above.verify_directly_issued_by(load_pem_x509_certificate(_documents()["root"]))
        except (ValueError, KeyError, TypeError, InvalidSignature):
            raise not_authenticated("The certificate is of no instance.") from None
        told = {str(name.value) for name in leaf.subject}
        public = leaf.public_key()
        is_valid = leaf.not_valid_before_utc <= self.clock.now() <= leaf.not_valid_after_utc
        if not (is_valid and isinstance(public, rsa.RSAPublicKey) and f"opc-tenant:{TENANCY}" in told):
            raise not_authenticated("The certificate is not valid.")
        key_id = f"{TENANCY}/fed-x509/{leaf.fingerprint(SHA1()).hex(':').upper()}"  # noqa: S303 - as the service has it
        known = {key_id: Credential(public, Principal(INSTANCE, INSTANCE, "instance"))}
        signer_of(call.request, known.get, now=real_time(), covers_body=True, covers_host=False)
        return json_reply({"token": self._issued(INSTANCE, "instance", public_key)}, {})

    def exchange_pod_token(self, call: Call) -> Reply:
        """Serve ExchangePodToken."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        claims = self.domain.claims_of(token) if scheme == "Bearer" else None
        if claims is None or not claims["sub"].startswith(SERVICE_ACCOUNT):
            raise not_authenticated("The token is of no service account.")
        issued = self._issued(claims["sub"], "workload", call.details().required_text("podKey"))
        return Reply(200, body=base64.b64encode(json.dumps({"token": f"ST${issued}"}).encode()))

    def _issued(self, name: str, kind: str, public_key: str) -> str:
        return self.domain.issued({"sub": name, "ptype": kind}, session_key(public_key))


def _certificate(text: str) -> Certificate:
    return load_der_x509_certificate(base64.b64decode(text, validate=True))


# Making keys takes as long as a hundred calls: one instance a process will do.
@cache
def _documents() -> Mapping[str, bytes]:
    """The instance's metadata by its path, and the certificate of who vouches for all instances."""
    root = trustme.CA()
    above = root.create_child_ca()
    leaf = above.issue_cert(
        "instance.sandbox",
        organization_name=f"opc-tenant:{TENANCY}",
        organization_unit_name=f"opc-instance:{INSTANCE}",
        key_type=trustme.KeyType.RSA,
    )
    return {
        "root": root.cert_pem.bytes(),
        "instance/region": REGION.encode(),
        "identity/cert.pem": leaf.cert_chain_pems[0].bytes(),
        "identity/key.pem": leaf.private_key_pem.bytes(),
        "identity/intermediate.pem": above.cert_pem.bytes(),
    }
