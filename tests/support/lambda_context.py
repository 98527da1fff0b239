"""Lambda's context object, for handlers that a test calls itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TimeLeft:
    """The context of an invocation that has some seconds left."""

    seconds: float = 60.0

    def get_remaining_time_in_millis(self) -> int:
        """See `functions.face.LambdaContext`."""
        return int(self.seconds * 1000)
