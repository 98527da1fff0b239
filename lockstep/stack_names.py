"""The names that a stack gives to what the commands look for in AWS. All begin with the stack's own name."""

from typing import Final

DEFAULT_STACK = "lockstep"
"""The prefix of all names in AWS, unless `cdk.json` gives another one."""

LIVE: Final = "live"
CANARY: Final = "canary"
"""The aliases of the state machine by which runs start: that of the canary, and that of every other credential."""


def rule_name(stack: str, credential_id: str) -> str:
    """The name of the EventBridge rule that triggers a credential's rotations."""
    return f"{stack}-{credential_id.replace('/', '.')}"


def state_machine_name(stack: str) -> str:
    """The name of the state machine."""
    return stack


def alarm_prefix(stack: str) -> str:
    """How the names of the stack's alarms begin."""
    return f"{stack}-"


VERSION_OUTPUT: Final = "LockstepVersion"
FORMAT_OUTPUT: Final = "LockstepFormat"
"""Outputs of the stack: which build was deployed, and the format that it writes (`lockstep.formats`)."""
