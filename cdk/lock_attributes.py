"""Which attributes of the lock record each role writes, for `dynamodb:Attributes` (protocol E14).

DynamoDB compares that key with the top-level attributes that a request names, in the update and in the condition, and a
list must have the table's key too
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html). Each list is read from
the expressions that the role sends, so it cannot fall behind them.
"""

import re

from lockstep.aws import dynamodb_lock as writes
from lockstep.aws.dynamodb_lock import HEAD
from lockstep.protocol.schedule import AWS, STANDBY

Attributes = frozenset[str]

_KEY = "credential_id"
_NAMES = {"#plan": "plan", "#format": "format"}
"""The placeholders of attributes whose names are reserved words."""
_WORDS = frozenset({"ADD", "AND", "DELETE", "OR", "REMOVE", "SET"})
_NAME = re.compile(r"(?<![:\w#])#?[A-Za-z_]\w*(?!\w|\s*\()")
"""A name or its placeholder; not a value, and not a function."""


def named(*expressions: str) -> Attributes:
    """The attributes that expressions name."""
    found = {name for expression in expressions for name in _NAME.findall(expression)}
    return frozenset(_NAMES.get(name, name) for name in found - _WORDS) | {_KEY}


CLAIM = named(
    writes.CLAIM_UPDATE,
    writes.SET_VALID_FROM,
    writes.RAISE_ORDER,
    writes.REMOVE_PHASE,
    writes.REMOVE_ACTIVATION,
    writes.ADD_VALID,
    writes.HELD,
    writes.NEWEST,
    writes.UNDER_ACTIVE_PLAN,
    writes.UNDER_ORDERED_PLAN,
    writes.NOTHING_IN_FLIGHT,
    writes.OPEN,
    writes.PROMOTING,
)
PROMOTE = named(writes.PROMOTE_UPDATE, writes.PROMOTE_CONDITION)
BLOCK = named(writes.BLOCK_UPDATE, writes.BLOCK_CONDITION)
RELEASE = named(writes.RELEASE_UPDATE, writes.RELEASE_CONDITION)
_RUN = RELEASE | named(writes.ACQUIRE_UPDATE, writes.ACQUIRE_CONDITION, writes.RELEASE_DONE_UPDATE)
STATE_MACHINE, _OCI_RUN = (_RUN - {"#head"} | {f"{HEAD}{stream}"} for stream in (AWS, STANDBY))
"""A run moves the head of its own cloud's stream when it gives the lock back."""

GENERATE, APPLY_DB, UPDATE_SECRETS = CLAIM, BLOCK, PROMOTE
OCI_RUNNER = CLAIM | PROMOTE | BLOCK | _OCI_RUN
