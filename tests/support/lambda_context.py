"""Lambda's context object, for handlers that a test calls itself."""

from dataclasses import dataclass

_LOOK = {"doctor": "look"}
NO_LOOKS = [
    {"doctor": "rotate"},
    {"doctor": None},
    {**_LOOK, "credential_id": "multi-cloud/app-1"},
    {**_LOOK, "force": True},
    {**_LOOK, "host": "elsewhere.example"},
    {**_LOOK, "silent": ["hunter2-canary!"]},
    {**_LOOK, "silent": "orders"},
]
"""What `lockstep doctor --in-cloud` does not send."""


@dataclass
class TimeLeft:
    """The context of an invocation that has some seconds left."""

    seconds: float = 60.0
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:111122223333:function:lockstep-step:1"

    def get_remaining_time_in_millis(self) -> int:
        """See `functions.face.LambdaContext`."""
        return int(self.seconds * 1000)
