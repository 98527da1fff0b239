"""The writes of the lock record as DynamoDB expressions: what each sets, and under which condition (protocol L3).

In AWS the state machine acquires and releases the lock itself: `cdk/statemachine.py` takes the expressions for
`statemachine.asl.json` from here.
"""

FAR_FUTURE = 253402300799
"""9999-12-31T23:59:59Z, in epoch seconds: later than every due time."""

_ACQUIRE = "SET holder = :holder, expires_at = :expires_at, acquired_at = :now"
_ONE_MORE = " ADD fence :one"
ACQUIRE_UPDATE = f"{_ACQUIRE}{_ONE_MORE}"
LEADER_ACQUIRE_UPDATE = f"{_ACQUIRE}, aws_began_at = :now{_ONE_MORE}"
"""ACQUIRE by AWS. A run that never ends leaves the sign without a further write (protocol R8)."""
FREE_CONDITION = "attribute_not_exists(holder) OR expires_at < :now OR holder = :holder"
"""Free, expired or already held by this run. An operator who takes the lock waits for nothing else."""
_MAY_BEGIN = (
    f"({FREE_CONDITION}) "
    "AND (attribute_not_exists(paused) OR paused <> :heeded) "
    "AND ((attribute_exists(revoke_through) "
    "AND (attribute_not_exists(alive_from) OR alive_from <= revoke_through)) "
    "OR ((attribute_not_exists(not_before) OR not_before <= :now) "
    "AND (attribute_exists(pending_generation) OR attribute_not_exists(next_due_at) OR "
)
ACQUIRE_CONDITION = f"{_MAY_BEGIN}next_due_at <= :due_by)))"
"""Free, expired or already held by this run; not paused; and an emergency, or due after the overlap (protocol L4)."""
STANDBY_ACQUIRE_CONDITION = (
    f"{_MAY_BEGIN}(next_due_at <= :due_by AND (next_due_at <= :late_by OR (next_due_at <= :turn_by AND "
    "(attribute_not_exists(aws_seen_at) OR aws_seen_at <= :seen_after OR aws_began_at > :began_by)))))))"
)
"""The same, and what is due is not left to AWS: `lockstep.standby.yields` in DynamoDB's words (protocol R8)."""
PAUSE_HEEDED, PAUSE_WAIVED = True, False
"""`:heeded`, for a scheduled run and for a forced one: the value of `paused` that stops it."""

CLAIM_UPDATE = (
    "SET claim_kind = :kind, pending_generation = :generation, base_generation = :base, "
    "claim_rotation_id = :rotation_id, highest_generation = :generation, #plan = :plan, #format = :format"
)
RAISE_ORDER = ", revoke_through = :generation"
REMOVE_PHASE = " REMOVE promoting"
REMOVE_ACTIVATION = ", activate"
SET_ALIVE_FROM = ", alive_from = :alive_from"
ADD_ALIVE = " ADD alive :alive"
HELD = "holder = :holder AND fence = :fence"
NEWEST = "(attribute_not_exists(highest_generation) OR highest_generation < :generation)"
UNDER_ACTIVE_PLAN = "#plan = :plan"
UNDER_ORDERED_PLAN = "activate = :plan"
NOTHING_IN_FLIGHT = "attribute_not_exists(pending_generation)"
_REPLACED = (
    "pending_generation = :replaced AND claim_kind = :replaced_kind AND base_generation = :replaced_base "
    "AND claim_rotation_id = :replaced_run"
)
OPEN = f"{_REPLACED} AND attribute_not_exists(promoting)"
PROMOTING = f"{_REPLACED} AND attribute_exists(promoting)"
"""CLAIM: still held by this run, in flight is what was seen, the generation was never used, and the plan is the active
one or becomes so with this write (protocol L6)."""

PROMOTE_UPDATE = (
    "SET promoting = :true, alive_from = if_not_exists(alive_from, :generation) ADD alive :generations"
)
PROMOTE_CONDITION = (
    f"{HELD} AND expires_at > :now AND pending_generation = :generation AND claim_rotation_id = :rotation_id "
    "AND #format <= :format"
)
"""Still held by this run, and its claim is in flight, and no newer build has made it (protocol L14, R11)."""

MUTE_UPDATE = "ADD muted :databases"
MUTE_CONDITION = HELD
"""Still held by this run (protocol L15)."""

HEAD_UPDATE = "SET #head = :head"
UNWITNESSED_UPDATE = f"{HEAD_UPDATE}, #since = if_not_exists(#since, :at)"
"""The stream's newest entry is named by no other stream yet. What it names is witnessed (protocol L8): REMOVE it."""
FIRST_HEAD_CONDITION = "attribute_not_exists(#head) OR #head = :head"
HEAD_CONDITION = "#head = :after OR #head = :head"
"""The head is the one that was read. Not under the fence: a run without it records its failure (protocol L8)."""

SKIP_UPDATE = "SET aws_seen_at = :now"
SKIP_CONDITION = "attribute_exists(credential_id)"
"""A run of AWS that did not get the lock shows that AWS lives (protocol R8)."""

_DONE = (
    "SET current_generation = :current, alive = :alive, alive_from = :alive_from, "
    "next_due_at = :next_due_at, not_before = :not_before"
)
_NO_CLAIM = (
    " REMOVE holder, expires_at, acquired_at, claim_kind, pending_generation, base_generation, "
    "claim_rotation_id, promoting"
)
_PROVEN = " DELETE enrol :proven, muted :proven"
RELEASE_DONE_UPDATE = f"{_DONE}{_NO_CLAIM}{_PROVEN}"
LEADER_RELEASE_DONE_UPDATE = (
    f"{_DONE}, aws_seen_at = :now, aws_led_at = :now{_NO_CLAIM}, aws_began_at{_PROVEN}"
)
"""RELEASE_DONE by AWS: what it began has finished well (protocol R8)."""
RELEASE_UPDATE = "REMOVE holder, expires_at, acquired_at"
RELEASE_CONDITION = "fence = :fence AND (holder = :holder OR attribute_not_exists(holder))"
"""No other run has acquired the lock since (protocol L10)."""
