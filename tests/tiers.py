"""The second tier of the tests: what `make test` leaves out, and `make proof` runs for a part of its time.

A test is here if it takes long for what it adds: it goes through a deployment, a page or a language again whose promise
a test of the first tier holds already. Everything else is of the first tier.
"""

PROOF_TIER: dict[str, tuple[str, ...]] = {
    "deployments": (
        "tests/infrastructure/test_artefacts.py::test_two_builds_of_a_commit_are_the_same_bytes",
        "tests/infrastructure/test_artefacts.py::test_a_bill_of_materials_has_every_package_of_the_lock_file_with_its_hashes",
        "tests/infrastructure/test_artefacts.py::test_the_sums_are_those_of_all_files",
        "tests/infrastructure/test_cdk_hundred.py",
        "tests/infrastructure/test_fleet_run.py",
        "tests/infrastructure/test_life_cycle.py",
        "tests/infrastructure/test_life_cycle_adoption.py",
        "tests/infrastructure/test_life_cycle_provision.py",
        "tests/infrastructure/test_life_cycle_sessions.py",
        "tests/infrastructure/test_life_cycle_versions.py",
    ),
    "pages": (
        "tests/browser",
        "tests/docs/test_tutorial.py::test_the_tutorial_runs_as_it_is_written",
        "tests/docs/test_tutorial.py::test_the_guides_run_in_the_same_sandbox",
        "tests/docs/test_tutorial.py::test_nothing_is_left_of_a_sandbox_that_was_stopped",
    ),
    "breakages": (
        "tests/contract/doctor/test_doctor.py::test_a_check_tells_whatever_else_is_wrong",
        "tests/contract/doctor/test_doctor.py::test_a_check_of_sessions_tells_whatever_else_is_wrong",
    ),
    "languages": ("tests/agent/languages",),
}
"""By part of `make proof`: files, folders, or tests without their parameters, from the root of the repository."""


def is_proof_tier(test: str) -> bool:
    """Whether a test is of the second tier.

    Args:
        test: pytest's id of it.
    """
    file, _, name = test.partition("[")[0].partition("::")
    folders = [file[:at] for at, letter in enumerate(file) if letter == "/"]
    places = {*folders, file, f"{file}::{name}"}
    return any(not places.isdisjoint(part) for part in PROOF_TIER.values())
