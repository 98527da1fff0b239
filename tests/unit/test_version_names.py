"""The names of versions, the same in every store (protocol V3)."""

from uuid import RFC_4122, UUID

import pytest

from lockstep.protocol.names import VersionNames

OURS = VersionNames(credential_id="multi-cloud/app_user", secret="multi-cloud/app_user")


@pytest.mark.parametrize("generation", [1, 42, 999_999_999_999])
def test_a_name_is_a_uuid_that_contains_its_generation(generation: int) -> None:
    name = OURS.name_of(generation)
    assert len(name) == 36
    assert (UUID(name).version, UUID(name).variant) == (8, RFC_4122)
    assert name.endswith(f"-{generation:012d}")
    assert OURS.generation_of(name) == generation


def test_a_name_never_changes() -> None:
    assert OURS.name_of(42) == "13cf509b-b00d-89f1-89bb-000000000042"


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "42",
        VersionNames(credential_id="another/credential", secret=OURS.secret).name_of(7),
        VersionNames(credential_id=OURS.credential_id, secret="another/secret").name_of(7),
        OURS.name_of(7)[:-12] + "00000000000a",
        OURS.name_of(7) + "0",
        OURS.name_of(7)[:-1] + "\N{ARABIC-INDIC DIGIT SEVEN}",
        "7f1d9a52-3f63-4d7a-8f0c-000000000007",
    ],
)
def test_any_other_name_is_generation_0(name: str | None) -> None:
    assert OURS.generation_of(name) == 0


def test_the_oci_name_of_a_secret_gives_the_same_names() -> None:
    dotted = VersionNames(credential_id=OURS.credential_id, secret="multi-cloud.app_user")
    assert dotted.name_of(7) == OURS.name_of(7)
