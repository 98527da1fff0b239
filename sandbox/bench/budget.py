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
        "generate": 3,
        "apply_db": 3,
        "update_secrets": 3,
        "audit": 3,
        "ReleaseLock": 1,
    },
    LARGE: {
        "AcquireLock": 1,
        "generate": 4,
        "apply_db": 3,
        "update_secrets": 4,
        "audit": 3,
        "ReleaseLock": 1,
    },
}
"""What each step may take, by size: one database and one store in AWS; two databases, and a second store in OCI with a
ring of four."""

SUMS: Mapping[tuple[str, str], tuple[int, int]] = {
    (SMALL, MACHINE): (14, 14),
    (LARGE, MACHINE): (16, 16),
    (LARGE, FUNCTION): (15, 15),
}
"""Of a whole rotation, by size and runner: what is aimed at, and what it may take."""

CALLS: Mapping[tuple[str, str, str], tuple[int, int]] = {
    (SMALL, MACHINE, "calls"): (22, 22),
    (LARGE, MACHINE, "oci_calls"): (22, 22),
    (LARGE, FUNCTION, "oci_calls"): (24, 27),
}
"""All requests, or those to OCI: what is aimed at, and what a rotation may make."""
