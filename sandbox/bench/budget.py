"""The budget of a rotation, in sequential round trips: the one place that says what each step may take.

A round trip is sequential if it does not wait at the same time as another one. The tests and `make bench` fail where a
step takes more. To lower a figure here is to promise that it stays.
"""

from collections.abc import Mapping

SMALL = "1x1"
LARGE = "2x2"
MACHINE = "state machine"
FUNCTION = "OCI function"

STEPS: Mapping[str, Mapping[str, int]] = {
    SMALL: {
        "AcquireLock": 1,
        "generate": 8,
        "apply_db": 2,
        "update_secrets": 5,
        "audit": 4,
        "ReleaseLock": 1,
    },
    LARGE: {
        "AcquireLock": 1,
        "generate": 16,
        "apply_db": 2,
        "update_secrets": 6,
        "audit": 4,
        "ReleaseLock": 1,
    },
}
"""By size: one database and one store in AWS; two databases, and a second store in OCI with a ring of four."""

STEP_GOALS: Mapping[str, Mapping[str, int]] = {
    SMALL: {
        "AcquireLock": 1,
        "generate": 3,
        "apply_db": 2,
        "update_secrets": 3,
        "audit": 4,
        "ReleaseLock": 1,
    },
    LARGE: {
        "AcquireLock": 1,
        "generate": 4,
        "apply_db": 2,
        "update_secrets": 4,
        "audit": 4,
        "ReleaseLock": 1,
    },
}
"""What is aimed at."""

SUMS: Mapping[tuple[str, str], tuple[int, int]] = {
    (SMALL, MACHINE): (14, 21),
    (LARGE, MACHINE): (16, 31),
    (LARGE, FUNCTION): (16, 31),
}
"""Of a whole rotation, by size and runner: what is aimed at, and what it may take."""

CALLS: Mapping[tuple[str, str, str], tuple[int, int]] = {
    (SMALL, MACHINE, "calls"): (22, 30),
    (LARGE, MACHINE, "oci_calls"): (24, 46),
    (LARGE, FUNCTION, "oci_calls"): (24, 52),
}
"""All requests, or those to OCI: what is aimed at, and what a rotation may make."""
