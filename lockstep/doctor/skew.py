"""How far this clock is from that of a cloud."""

from collections.abc import Callable
from datetime import datetime, timedelta

from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.ports import Clock

LIMIT = timedelta(minutes=5)
"""A request that was signed at another time than this is refused, in both clouds
(https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html,
https://docs.oracle.com/en-us/iaas/Content/API/Concepts/signingrequests.htm)."""
NEAR = timedelta(minutes=1)
"""Lockstep counts with clocks that are nearer: half its tolerance."""
MEND = "timedatectl set-ntp true"


def skew_answer(cloud: str, clock: Clock, ask: Callable[[], datetime]) -> Answer:
    """What the difference means.

    Args:
        cloud: Whose clock it is compared with.
        clock: This one.
        ask: Which time the cloud says that it is, to the second.
    """
    before = clock.now()
    theirs = ask()
    middle = before + (clock.now() - before) / 2
    away = abs(theirs - middle)
    seconds = f"{round(away.total_seconds())} s"
    if away >= LIMIT:
        return failed("clock", f"it is {seconds} from that of {cloud}, which refuses signatures by it", MEND)
    if away >= NEAR:
        return warning("clock", f"it is {seconds} from that of {cloud}", MEND)
    return passed("clock", f"it is {seconds} from that of {cloud}")
