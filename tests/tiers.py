"""The second tier of the tests: what `make test` leaves out, and `make proof` runs for a part of its time.

A test is here if it takes long for what it adds: it goes through a deployment, a page or a language again whose promise
a test of the first tier holds already. Everything else is of the first tier.
"""

PROOF_TIER: dict[str, tuple[str, ...]] = {
    "deployments": (
        "tests/docs/test_installation.py::test_a_release_deploys_and_rotates_without_a_checkout",
        "tests/infrastructure/test_release.py::test_a_release_has_its_bills_and_sums_and_two_builds_of_a_commit_are_the_same_bytes",
        "tests/infrastructure/test_cdk_stack.py::test_policies_fit_with_the_longest_names_with_keys_and_with_admins_by_arn",
        "tests/infrastructure/test_cdk_stack.py::test_ten_thousand_credentials_are_a_hundred_and_some_more_rules_and_nothing_else",
        "tests/infrastructure/test_fleet_run.py",
        "tests/infrastructure/test_images.py",
        "tests/infrastructure/test_terraform_sessions.py",
    ),
    "emulators": ("tests/emulators",),
    "pages": (
        "tests/browser",
        "tests/docs/test_pages.py::test_the_site_has_every_page_but_decisions_and_asks_no_other_host",
        "tests/docs/test_tutorial.py::test_the_tutorial_runs_as_it_is_written",
        "tests/docs/test_tutorial.py::test_the_guides_run_in_the_same_sandbox",
        "tests/docs/test_tutorial.py::test_nothing_is_left_of_a_sandbox_that_was_stopped",
    ),
    "repeats": (
        "tests/contract/test_federation.py::test_both_runners_rotate_however_they_prove_themselves[key]",
        "tests/contract/test_federation.py::test_both_runners_rotate_however_they_prove_themselves[two_keys]",
        "tests/proof/test_faults.py::test_a_fault_at_any_change_locks_nobody_out_and_the_next_run_finishes[mysql]",
        "tests/proof/test_faults.py::test_the_wire_finds_it",
        "tests/proof/test_model.py::test_each_rule_is_needed[claim-without-condition]",
        "tests/proof/test_model.py::test_no_order_breaks_it[mysql+mysql: 1 terms, 1 edits, 1 revokes]",
        "tests/proof/test_model.py::test_no_order_breaks_it[postgresql+postgresql: 1 terms, 1 edits, 1 failovers]",
        "tests/proof/test_model.py::test_no_order_breaks_it[postgresql+postgresql: 1 terms, 1 failovers, 1 revokes]",
        "tests/proof/test_model.py::test_no_order_breaks_it[postgresql+postgresql: 2 terms]",
        "tests/statemachine/test_rotation.py::test_no_password_appears_anywhere[everywhere]",
        "tests/statemachine/test_client.py::test_a_pool_goes_through_rotations",
    ),
    "languages": ("tests/agent/languages", "tests/contract/test_poolers.py"),
    "fuzz": ("tests/fuzz/test_replies.py",),
}
"""By part of `make proof`: folders, files, or tests, with parameters or of all parameters.

The part `fuzz` also runs what is of the first tier in `tests/fuzz`. `emulators` is not a part of `make proof`:
`make test-emulators` runs it, and `.ci/run` does where its files have changed.
"""


def is_proof_tier(test: str) -> bool:
    """Whether a test is of the second tier.

    Args:
        test: pytest's id of it.
    """
    without_parameters = test.partition("[")[0]
    file = without_parameters.partition("::")[0]
    folders = [file[:at] for at, letter in enumerate(file) if letter == "/"]
    places = {*folders, file, without_parameters, test}
    return any(not places.isdisjoint(part) for part in PROOF_TIER.values())
