"""The budget of a rotation, in sequential round trips: the one place that says what each step may take.

A round trip is sequential if it does not wait at the same time as another one. The tests and `make bench` fail where a
step takes more. To lower a figure here is to promise that it stays.
"""

from collections.abc import Mapping

SMALL = "1x1"
LARGE = "2x2"
MACHINE = "state machine"
FUNCTION = "OCI function"

STEP_GOALS: Mapping[str, Mapping[str, int]] = {
    SMALL: {
        "AcquireLock": 1,
        "generate": 3,
        "apply_db": 3,
        "update_secrets": 3,
        "audit": 4,
        "ReleaseLock": 1,
    },
    LARGE: {
        "AcquireLock": 1,
        "generate": 4,
        "apply_db": 3,
        "update_secrets": 4,
        "audit": 4,
        "ReleaseLock": 1,
    },
}
"""What is aimed at, by size: one database and one store in AWS; two databases, and a second store in OCI with a ring of
four."""

STEPS: Mapping[str, Mapping[str, int]] = {**STEP_GOALS, LARGE: {**STEP_GOALS[LARGE], "audit": 5}}
"""What each step may take."""

SUMS: Mapping[tuple[str, str], tuple[int, int]] = {
    (SMALL, MACHINE): (15, 15),
    (LARGE, MACHINE): (17, 17),
    (LARGE, FUNCTION): (16, 16),
}
"""Of a whole rotation, by size and runner: what is aimed at, and what it may take."""

CALLS: Mapping[tuple[str, str, str], tuple[int, int]] = {
    (SMALL, MACHINE, "calls"): (23, 23),
    (LARGE, MACHINE, "oci_calls"): (24, 24),
    (LARGE, FUNCTION, "oci_calls"): (24, 27),
}
"""All requests, or those to OCI: what is aimed at, and what a rotation may make."""
