"""The names that a stack gives to what the commands look for in AWS. All begin with the stack's own name."""

from typing import Final

DEFAULT_STACK = "lockstep"
"""The prefix of all names in AWS, unless `cdk.json` gives another one."""

LIVE: Final = "live"
CANARY: Final = "canary"
"""The aliases of the state machine by which runs start: that of the canary, and that of every other credential."""


def rule_name(stack: str, shard: str) -> str:
    """The name of the EventBridge rule that starts the rotations of a shard."""
    return f"{stack}-{shard}"


def announce_rule_name(stack: str) -> str:
    """The name of the rule that tells others how a run has ended: of no shard, whose rules have a hyphen there."""
    return f"{stack}.announce"


def plan_bucket_name(audit_bucket: str) -> str:
    """The name of the bucket that holds the published plan, in both clouds: that of the audit log, with an ending."""
    return f"{audit_bucket}-plans"


def state_machine_name(stack: str) -> str:
    """The name of the state machine."""
    return stack


def fleet_machine_name(stack: str) -> str:
    """The name of the state machine that starts the rotations of a shard."""
    return f"{stack}-fleet"


def function_names(stack: str, step: str) -> tuple[str, str]:
    """The names that a step's function can have: from an image, and from a zip.

    Another package type replaces a function, and CloudFormation makes the new one before it deletes the old one.
    """
    name = f"{stack}-{step.replace('_', '-')}"
    return name, f"{name}-zip"


def oci_runner_name(stack: str) -> str:
    """The name of the policy of the OCI runner, and of the role that it gets by federation."""
    return f"{stack}-oci-runner"


def alarm_prefix(stack: str) -> str:
    """How the names of the stack's alarms begin."""
    return f"{stack}-"


def canary_alarm_name(stack: str) -> str:
    """The name of the alarm that stops a deployment. It tells nobody."""
    return f"{alarm_prefix(stack)}Canary"


VERSION_OUTPUT: Final = "LockstepVersion"
FORMAT_OUTPUT: Final = "LockstepFormat"
"""Outputs of the stack: which build was deployed, and the format that it writes (`lockstep.formats`)."""

PRINCIPALS_OUTPUT: Final = "OciPrincipals"
"""The output that names the roles for OCI's policies: a JSON object, ARNs by step. It stays while the stack does."""
KEY_OUTPUT: Final = "EncryptionKeyArn"
"""The output of the stack that names the key of what it makes."""
