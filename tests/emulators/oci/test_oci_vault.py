import base64
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from tests.emulators.oci.oci_case import START, OciCase, Untyped, content_of, refused

DAY = timedelta(days=1)
models = oci.vault.models


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


def details_of(case: OciCase, **changes: Untyped) -> Untyped:
    fields = {
        "compartment_id": case.sandbox.compartment_id,
        "vault_id": case.sandbox.vault_id,
        "key_id": case.sandbox.key_id,
        "secret_name": "name",
        "secret_content": content_of("g1"),
    }
    return models.CreateSecretDetails(**{**fields, **changes})


class TestCreate:
    def test_the_first_version_is_current_and_latest(self, case: OciCase) -> None:
        secret = case.create("multi-cloud.app_user.0")
        shown = case.vaults.get_secret(secret).data
        assert (shown.secret_name, shown.current_version_number) == ("multi-cloud.app_user.0", 1)
        assert (shown.lifecycle_state, shown.time_created) == ("ACTIVE", START)
        assert case.stages(secret) == {1: ["CURRENT", "LATEST"]}
        assert case.content(secret) == "value g1"

    @pytest.mark.parametrize("name", ["multi-cloud/app_user", "app user", "a" * 256])
    def test_names_with_slashes_or_spaces_or_over_255_characters_are_refused(
        self, case: OciCase, name: str
    ) -> None:
        with refused(400, "InvalidParameter"):
            case.create(name)

    def test_names_are_unique_within_a_vault(self, case: OciCase) -> None:
        secret = case.create("taken")
        with refused(400, "InvalidParameter"):
            case.create("taken")
        case.sandbox.vault.vaults.add("ocid1.vault.oc1..other")
        case.vaults.create_secret(details_of(case, secret_name="taken", vault_id="ocid1.vault.oc1..other"))
        case.vaults.schedule_secret_deletion(secret, models.ScheduleSecretDeletionDetails())
        with refused(400, "InvalidParameter"):
            case.create("taken")

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"secret_content": None}, "MissingParameter"),
            ({"secret_name": None}, "MissingParameter"),
            ({"key_id": None}, "MissingParameter"),
            ({"secret_content": content_of("g1", "PENDING")}, "InvalidParameter"),
            ({"secret_content": models.Base64SecretContentDetails(content="no base64")}, "InvalidParameter"),
            ({"secret_content": content_of("a/b")}, "InvalidParameter"),
        ],
    )
    def test_invalid_details_are_refused(self, case: OciCase, changes: dict[str, Untyped], code: str) -> None:
        with refused(400, code):
            case.vaults.create_secret(details_of(case, **changes))


class TestStages:
    def test_a_pending_version_changes_nothing_until_it_is_promoted(self, case: OciCase) -> None:
        secret = case.create()
        case.upload(secret, "g2", "PENDING")
        assert case.stages(secret) == {1: ["CURRENT"], 2: ["PENDING", "LATEST"]}
        assert case.content(secret) == "value g1"
        case.promote(secret, 2)
        assert case.stages(secret) == {1: ["PREVIOUS"], 2: ["CURRENT", "LATEST"]}
        assert case.content(secret) == "value g2"
        assert case.vaults.get_secret(secret).data.current_version_number == 2

    def test_an_older_version_can_be_promoted(self, case: OciCase) -> None:
        secret = case.create()
        for number in (2, 3):
            case.upload(secret, f"g{number}")
        case.promote(secret, 1)
        assert case.stages(secret) == {1: ["CURRENT"], 2: ["DEPRECATED"], 3: ["PREVIOUS", "LATEST"]}

    @pytest.mark.parametrize(
        ("behaviour", "stages"),
        [
            ("DEPRECATED", {1: ["CURRENT"], 2: ["DEPRECATED"], 3: ["PENDING", "LATEST"]}),
            ("PENDING", {1: ["CURRENT"], 2: ["PENDING"], 3: ["PENDING", "LATEST"]}),
        ],
    )
    def test_staging_over_a_pending_version(
        self, case: OciCase, behaviour: Literal["DEPRECATED", "PENDING"], stages: dict[int, list[str]]
    ) -> None:
        case.sandbox.vault.behaviour.replaced_pending = behaviour
        secret = case.create()
        case.upload(secret, "g2", "PENDING")
        case.upload(secret, "g3", "PENDING")
        assert case.stages(secret) == stages
        assert case.content(secret, stage="PENDING") == "value g3"


class TestUpdate:
    def test_content_and_promotion_exclude_each_other(self, case: OciCase) -> None:
        secret = case.create()
        with refused(400, "InvalidParameter"):
            case.vaults.update_secret(
                secret,
                models.UpdateSecretDetails(secret_content=content_of("g2"), current_version_number=1),
            )
        assert case.stages(secret) == {1: ["CURRENT", "LATEST"]}

    @pytest.mark.parametrize("number", [1, 7])
    def test_only_another_existing_version_can_be_promoted(self, case: OciCase, number: int) -> None:
        with refused(400, "InvalidParameter"):
            case.promote(case.create(), number)

    def test_content_names_are_unique_within_a_secret(self, case: OciCase) -> None:
        secret = case.create()
        with refused(400, "InvalidParameter"):
            case.upload(secret, "g1", "PENDING")
        assert case.stages(secret) == {1: ["CURRENT", "LATEST"]}

    def test_a_content_name_is_free_again_once_its_version_is_deleted(self, case: OciCase) -> None:
        secret = case.create()
        for name in ("g2", "g3"):
            case.upload(secret, name)
        case.schedule(secret, 1, START + DAY)
        with refused(400, "InvalidParameter"):
            case.upload(secret, "g1")
        case.sandbox.clock.advance(DAY)
        assert case.upload(secret, "g1").data.current_version_number == 4

    def test_a_change_with_a_stale_etag_is_refused(self, case: OciCase) -> None:
        secret = case.create()
        first = case.vaults.get_secret(secret).headers["etag"]
        second = case.upload(secret, "g2", "PENDING", if_match=first).headers["etag"]
        assert second != first
        with refused(412, "NoEtagMatch"):
            case.promote(secret, 2, if_match=first)
        assert case.stages(secret) == {1: ["CURRENT"], 2: ["PENDING", "LATEST"]}
        assert case.promote(secret, 2, if_match=second).headers["etag"] not in {first, second}

    @pytest.mark.parametrize("code", ["IncorrectState", "Conflict"])
    def test_a_secret_that_is_updating_refuses_changes(self, case: OciCase, code: str) -> None:
        behaviour = case.sandbox.vault.behaviour
        behaviour.busy_code = code
        secret = case.create()
        behaviour.updating_for = timedelta(seconds=3)
        assert case.upload(secret, "g2", "PENDING").data.lifecycle_state == "UPDATING"
        with refused(409, code):
            case.promote(secret, 2)
        case.sandbox.clock.advance(timedelta(seconds=3))
        assert case.vaults.get_secret(secret).data.lifecycle_state == "ACTIVE"
        case.promote(secret, 2)


class TestVersionDeletion:
    @pytest.fixture
    def secret(self, case: OciCase) -> str:
        """A secret whose versions are: 1 deprecated, 2 previous, 3 current, 4 pending."""
        secret = case.create()
        for name, stage in (("g2", "CURRENT"), ("g3", "CURRENT"), ("g4", "PENDING")):
            case.upload(secret, name, stage)
        return secret

    @pytest.mark.parametrize("number", [2, 3, 4, 9])
    def test_only_deprecated_versions_can_be_deleted(self, case: OciCase, secret: str, number: int) -> None:
        with refused(400, "InvalidParameter"):
            case.schedule(secret, number, START + DAY)

    @pytest.mark.parametrize(
        "at", [START, START + DAY - timedelta(seconds=1), START + 30 * DAY + timedelta(seconds=1)]
    )
    def test_a_deletion_is_1_to_30_days_ahead(self, case: OciCase, secret: str, at: datetime) -> None:
        with refused(400, "InvalidParameter"):
            case.schedule(secret, 1, at)

    @pytest.mark.parametrize("asked", [START + DAY, START + 30 * DAY, None])
    def test_a_version_is_deleted_at_its_time(
        self, case: OciCase, secret: str, asked: datetime | None
    ) -> None:
        case.schedule(secret, 1, asked)
        at = asked or START + 30 * DAY
        listed = case.vaults.list_secret_versions(secret).data
        assert [version.time_of_deletion for version in listed] == [None, None, None, at]
        case.sandbox.clock.advance(at - START - timedelta(seconds=1))
        assert sorted(case.stages(secret)) == [1, 2, 3, 4]
        case.sandbox.clock.advance(timedelta(seconds=1))
        assert sorted(case.stages(secret)) == [2, 3, 4]

    def test_the_purge_may_be_late(self, case: OciCase, secret: str) -> None:
        case.sandbox.vault.behaviour.purge_lateness = timedelta(hours=12)
        case.schedule(secret, 1, START + DAY)
        case.sandbox.clock.advance(DAY + timedelta(hours=11))
        assert 1 in case.stages(secret)
        case.sandbox.clock.advance(timedelta(hours=1))
        assert 1 not in case.stages(secret)


class TestSecretDeletion:
    def test_a_secret_pending_deletion_can_be_neither_read_nor_changed(self, case: OciCase) -> None:
        secret = case.create()
        case.vaults.schedule_secret_deletion(
            secret, models.ScheduleSecretDeletionDetails(time_of_deletion=START + DAY)
        )
        assert case.vaults.get_secret(secret).data.lifecycle_state == "PENDING_DELETION"
        with refused(404, "NotAuthorizedOrNotFound"):
            case.content(secret)
        with refused(409, "IncorrectState"):
            case.upload(secret, "g2")
        case.vaults.cancel_secret_deletion(secret)
        assert case.content(secret) == "value g1"
        case.sandbox.clock.advance(2 * DAY)
        assert case.vaults.get_secret(secret).data.lifecycle_state == "ACTIVE"


class TestLists:
    def test_secrets_by_compartment_name_vault_and_state(self, case: OciCase) -> None:
        first, second = case.create("b"), case.create("a")
        compartment = case.sandbox.compartment_id

        def listed(**choice: str) -> list[str]:
            return [secret.id for secret in case.vaults.list_secrets(compartment, **choice).data]

        assert listed() == [second, first]
        assert listed(name="b", vault_id=case.sandbox.vault_id) == [first]
        assert listed(vault_id="ocid1.vault.oc1..other") == []
        assert listed(lifecycle_state="ACTIVE") == [second, first]
        assert case.vaults.list_secrets("ocid1.compartment.oc1..other").data == []
        with refused(400, "InvalidParameter"):
            listed(lifecycle_state="PENDING_DELETION")

    def test_versions_come_in_pages_newest_first(self, case: OciCase) -> None:
        case.sandbox.vault.behaviour.page_size = 3
        secret = case.create()
        for number in range(2, 8):
            case.upload(secret, f"g{number}")
        first = case.vaults.list_secret_versions(secret)
        assert [version.version_number for version in first.data] == [7, 6, 5]
        assert first.has_next_page
        assert [version.version_number for version in case.versions(secret)] == [7, 6, 5, 4, 3, 2, 1]
        ascending = case.vaults.list_secret_versions(secret, sort_order="ASC", limit=2).data
        assert [version.name for version in ascending] == ["g1", "g2"]


def test_only_bundles_show_content(case: OciCase) -> None:
    secret = case.create()
    content = base64.b64encode(b"value g1").decode("ascii")
    replies = [
        case.vaults.get_secret(secret),
        case.vaults.list_secret_versions(secret),
    ]
    shown = " ".join(str(reply.data) for reply in replies)
    assert content not in shown
    assert content not in f"{case.sandbox.vault} {case.sandbox.calls.records}"
