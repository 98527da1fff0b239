"""Signatures of requests, and what a principal may do."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from oci._vendor import requests  # type: ignore[import-untyped]  # the SDK ships no types

from tests.emulators.oci.oci_case import OciCase, Untyped, refused

Change = Callable[[Untyped], object]


def send(
    case: OciCase,
    change: Change | None = None,
    *,
    date: datetime | None = None,
    covered: tuple[str, ...] = ("date", "(request-target)", "host"),
    body_too: bool = True,
    **fields: str,
) -> int:
    """The status of a signed UpdateSecret that `change` alters after the signature."""
    secret = case.create(f"secret.{len(case.sandbox.calls.records)}")
    signer = oci.signer.Signer.from_config({**case.sandbox.config(), "key_file": None, **fields})
    body = ["content-length", "content-type", "x-content-sha256"]
    signer.create_signers(signer.api_key, signer.private_key, list(covered), body)
    request = requests.Request(
        "PUT",
        f"{case.sandbox.endpoint}/20180608/secrets/{secret}",
        data=b'{"description": "mine"}',
        headers={"content-type": "application/json"},
    ).prepare()
    if date is not None:
        request.headers["date"] = format_datetime(date, usegmt=True)
    (signer if body_too else signer.without_content_headers)(request)
    if change is not None:
        change(request)
    status: int = requests.Session().send(request, timeout=10).status_code
    return status


CHANGES: dict[str, Change] = {
    "no signature": lambda request: request.headers.pop("authorization"),
    "another body": lambda request: setattr(request, "body", b'{"description": "tamp"}'),
    "another path": lambda request: setattr(request, "url", f"{request.url}x"),
    "another algorithm": lambda request: request.headers.update(
        authorization=request.headers["authorization"].replace("rsa-sha256", "hmac-sha256")
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_request_that_was_changed_after_its_signature(case: OciCase, change: Change) -> None:
    assert send(case) == 200
    assert send(case, change) == 401


@pytest.mark.parametrize(
    "covered", [("date", "(request-target)"), ("(request-target)", "host"), ("date", "host")]
)
def test_a_signature_covers_date_target_and_host(case: OciCase, covered: tuple[str, ...]) -> None:
    assert send(case, covered=covered) == 401


def test_a_signature_covers_the_body_and_is_by_the_users_key(case: OciCase) -> None:
    assert send(case, body_too=False) == 401
    assert send(case, key_content=case.sandbox.new_api_key("other")["key_content"]) == 401


@pytest.mark.parametrize(("minutes", "status"), [(-6, 401), (-4, 200), (4, 200), (6, 401)])
def test_a_date_may_be_five_minutes_off(case: OciCase, minutes: int, status: int) -> None:
    assert send(case, date=datetime.now(UTC) + timedelta(minutes=minutes)) == status


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
