from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from oci._vendor import requests  # type: ignore[import-untyped]  # the SDK ships no types

from tests.emulators.oci.oci_case import OciCase, Untyped, refused


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


def signer_of(config: dict[str, str], **changes: str) -> Untyped:
    fields = {**config, **changes}
    return oci.signer.Signer(
        fields["tenancy"],
        fields["user"],
        fields["fingerprint"],
        None,
        private_key_content=fields["key_content"],
    )


def send(
    case: OciCase, sign: Callable[[Untyped], Untyped] | None, change: Callable[[Untyped], None] | None = None
) -> str:
    """Send a signed UpdateSecret that `change` alters after the signature; return the service's answer."""
    secret = case.create()
    body = b'{"description": "mine"}'
    request = requests.Request(
        "PUT", f"{case.sandbox.endpoint}/20180608/secrets/{secret}", data=body
    ).prepare()
    if sign is not None:
        sign(request)
    if change is not None:
        change(request)
    reply = requests.Session().send(request, timeout=10)
    return "accepted" if reply.status_code == 200 else f"{reply.status_code} {reply.json()['code']}"


def test_a_good_signature_is_accepted(case: OciCase) -> None:
    assert send(case, signer_of(case.sandbox.config())) == "accepted"


def test_no_signature(case: OciCase) -> None:
    assert send(case, None) == "401 NotAuthenticated"


def test_a_signature_by_another_key(case: OciCase) -> None:
    other = case.sandbox.new_api_key("other")
    sign = signer_of(case.sandbox.config(), key_content=other["key_content"])
    assert send(case, sign) == "401 NotAuthenticated"


def other_body(request: Untyped) -> None:
    request.body = b'{"description": "tampered"}'[: len(request.body)]


def other_path(request: Untyped) -> None:
    request.url += "x"


def other_algorithm(request: Untyped) -> None:
    request.headers["authorization"] = request.headers["authorization"].replace("rsa-sha256", "hmac-sha256")


@pytest.mark.parametrize("change", [other_body, other_path, other_algorithm])
def test_a_request_that_was_changed_after_its_signature(
    case: OciCase, change: Callable[[Untyped], None]
) -> None:
    assert send(case, signer_of(case.sandbox.config()), change) == "401 NotAuthenticated"


@pytest.mark.parametrize(
    "headers", [["date", "(request-target)"], ["(request-target)", "host"], ["date", "host"]]
)
def test_a_signature_must_cover_date_target_and_host(case: OciCase, headers: list[str]) -> None:
    signer = signer_of(case.sandbox.config())
    signer.create_signers(signer.api_key, signer.private_key, headers, ["content-length", "x-content-sha256"])
    assert send(case, signer) == "401 NotAuthenticated"


def test_a_signature_must_cover_the_body(case: OciCase) -> None:
    assert send(case, signer_of(case.sandbox.config()).without_content_headers) == "401 NotAuthenticated"


@pytest.mark.parametrize(
    ("minutes", "answer"),
    [(-6, "401 NotAuthenticated"), (-4, "accepted"), (4, "accepted"), (6, "401 NotAuthenticated")],
)
def test_a_date_may_be_five_minutes_off(case: OciCase, minutes: int, answer: str) -> None:
    signer = signer_of(case.sandbox.config())

    def sign(request: Untyped) -> None:
        request.headers["date"] = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
        signer(request)

    assert send(case, sign) == answer


def test_a_missing_permission_looks_like_a_missing_secret(case: OciCase) -> None:
    secret = case.create()
    vaults, secrets, _ = case.clients(case.sandbox.new_api_key("reader", "SECRET_BUNDLE_READ"))
    assert secrets.get_secret_bundle(secret).status == 200
    with refused(404, "NotAuthorizedOrNotFound"):
        vaults.get_secret(secret)
    with refused(404, "NotAuthorizedOrNotFound"):
        secrets.get_secret_bundle("ocid1.vaultsecret.oc1.eu-frankfurt-1.none")


def test_a_permission_can_be_limited_to_a_secret(case: OciCase) -> None:
    mine, other = case.create("mine"), case.create("other")
    config = case.sandbox.new_api_key("rotator", "SECRET_READ", "SECRET_INSPECT", resource=mine)
    vaults, _, _ = case.clients(config)
    assert vaults.get_secret(mine).data.secret_name == "mine"
    with refused(404, "NotAuthorizedOrNotFound"):
        vaults.get_secret(other)
    # A list names no secret, so the condition on its OCID is false.
    with refused(404, "NotAuthorizedOrNotFound"):
        vaults.list_secrets(case.sandbox.compartment_id)
    case.sandbox.identity.forbid("rotator", "SECRET_READ")
    with refused(404, "NotAuthorizedOrNotFound"):
        vaults.get_secret(mine)


def test_scheduling_a_version_deletion_needs_two_permissions(case: OciCase) -> None:
    secret = case.create()
    for name in ("g2", "g3"):
        case.upload(secret, name)
    details = oci.vault.models.ScheduleSecretVersionDeletionDetails()
    vaults, _, _ = case.clients(case.sandbox.new_api_key("rotator", "SECRET_VERSION_DELETE", resource=secret))
    with refused(404, "NotAuthorizedOrNotFound"):
        vaults.schedule_secret_version_deletion(secret, 1, details)
    case.sandbox.identity.permit("rotator", "SECRET_UPDATE", resource=secret)
    assert vaults.schedule_secret_version_deletion(secret, 1, details).status == 200
