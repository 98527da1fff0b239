"""The credential that a deployment reaches first, and how long the others wait for it.

The proof is a rotation that AWS has finished: the watch measures how long ago the last one was. The wait is so long
that a rotation which still counts at its end can only have begun under the new version:

    canary moved         the last old run has ended         the oldest proof         others moved
         |------------ RUN -----------|                           |                       |
         |                                                        |------ proven_for -----|
         |                            |---- three looks ----|
"""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from lockstep.operate.watch import EVERY
from lockstep.protocol.deadlines import RUN, START_LATENESS
from lockstep.protocol.model import Credential

LONGEST_WAIT = timedelta(minutes=2100)
"""Of CloudFormation between two steps of a gradual deployment
(https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-stepfunctions-statemachinealias-deploymentpreference.html)."""


@dataclass(frozen=True)
class Canary:
    """The credential that goes first."""

    credential: Credential

    @property
    def proven_for(self) -> timedelta:
        """A rotation was not longer ago than this, as long as every run of the canary succeeds."""
        return self.credential.schedule.interval + START_LATENESS + RUN

    @property
    def wait(self) -> timedelta:
        """From the deployment of the canary to that of the others.

        An alarm is up to three looks of the watch behind: the look itself, the period that it falls into, and
        CloudWatch's evaluation.
        """
        return RUN + self.proven_for + 3 * EVERY

    @property
    def wait_minutes(self) -> int:
        """The same, in whole minutes."""
        return ceil(self.wait / timedelta(minutes=1))
