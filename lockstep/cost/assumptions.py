"""What a bill assumes and nobody counted: times, sizes, how often a process has just started.

Everything errs on the dear side. Together the assumptions decide about a tenth of what a credential costs.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

HOURS = 730
"""Of a month, as AWS counts them."""
COLD = Fraction(1)
"""The share of starts in a process that has just started: a function that is called every 20 minutes may have lost its
process each time, and neither provider says after how long it does."""

# Times, in milliseconds.
CALL_MS: Mapping[str, int] = {
    **dict.fromkeys(("dynamodb", "kms", "s3", "secretsmanager", "sts"), 20),
    **dict.fromkeys(("secrets", "vault", "objectstorage", "identitydomain"), 40),
}
"""A call of a service from the other cloud, or in the own region; one after the other, though many are side by side."""
EVENTS_MS = 20
"""A request with the events of a rotation."""
LOGIN_MS = 30
"""A login, TLS included, or a statement that changes an account."""
LOGINS = 6
"""Of ApplyDb on a database; all databases at once."""
OVERHEAD_MS = 20
"""Of a call of a function: what is no waiting."""
START_CPU_MS = 300
"""What a start takes of a processor: up to 200 to the first client, as `make bench` measures it, and what interpreter
and platform take. It is charged like any other time
(https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/)."""
MEMORY_OF_A_PROCESSOR_MB = 1769
"""A function with less memory has that much less of a processor
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)."""

ROTATION_SECONDS = 6
"""A rotation in AWS, from the start of its execution to its end. `make bench` measures a median of 0.8 s on a loopback;
four functions that start anew, each at a few hundred milliseconds, and calls of real services come on top."""

ROTATION_SECONDS_IN_OCI = 10
"""The same by the OCI function, whose calls of the lock table and of Secrets Manager cross to the other cloud."""

# Sizes, in bytes.
CALL_OUT = 2000
"""Of a request to the other cloud: 1,100 were counted, headers and body, to OCI; the rest is for TCP and TLS."""
EVENT_IN_LOG = 420
"""Of an event of an execution, as Step Functions logs it without data."""
FUNCTION_IN_LOG = 1500
"""Of a call of a function: three lines of the platform's, and its own."""
COMPRESSED = Fraction(15, 100)
"""What is left of a log when it is stored
(https://aws.amazon.com/cloudwatch/pricing/, first example)."""
GIGABYTE = 1024**3

REPORT_OF_A_ROTATION = 1200
"""What Step Functions writes about a child execution of a Distributed Map: its names, times, input and output."""
EVENTS_OF_ITEM = 12
"""In the history of the child execution that starts a rotation and awaits it."""
EVENTS_OF_SHARD = 20
"""In that of the execution that starts a shard."""

# What is not per call.
WATCHES = HOURS * 12
"""Calls of the watch: every five minutes."""
RECORD_US = 150
"""Microseconds of a processor to read a record of a scan: 140 on a loopback, 107 of them in botocore's parser."""
CHILD_STARTS = 1
"""Transitions charged for a child execution that a Distributed Map starts, beside the states that it enters. AWS's page
of prices names the states alone, so this errs on the dear side."""
REPORT_WRITES = 4
"""Requests with which a Distributed Map writes its results: a manifest, and a file for each state of its children."""
KEY_CACHED_MINUTES = 5
"""For so long DynamoDB keeps a table's key for a principal
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html)."""
EVENTS = 2
"""Of a rotation, in one request: that it was promoted, and when the value before dies. A test counts both."""
PRINCIPALS = 5
"""Roles that use the lock table in a rotation: the machine's and those of four functions."""


def scan_seconds(records: int, memory_mb: int) -> Fraction:
    """How long a function takes to read so many records."""
    slower = max(Fraction(1), Fraction(MEMORY_OF_A_PROCESSOR_MB, memory_mb))
    return Fraction(records * RECORD_US, 1_000_000) * slower


def start_ms(memory_mb: int) -> Fraction:
    """How long a start takes."""
    return START_CPU_MS * max(Fraction(1), Fraction(MEMORY_OF_A_PROCESSOR_MB, memory_mb))


Protection = Literal["HSM", "SOFTWARE"]
