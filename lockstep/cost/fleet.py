"""What the start of the rotations costs in AWS (`lockstep.cost`): one rule and one execution for each shard.

The states are those of `cdk/fleet.asl.json`, on the path of a shard whose rotations all succeed; a test compares them.
"""

from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction

from lockstep.cost import assumptions as assumed
from lockstep.cost.aws import FUNCTIONS, aws_line, month, rotations, written_logs
from lockstep.cost.bill import Deployed, Line
from lockstep.plan import Plan
from lockstep.plan_credentials import CredentialSection
from lockstep.wall_clock import period

STATES_OF_A_SHARD = 5
STATES_OF_AN_ITEM = 3
"""Of the child execution that awaits its turn, starts a rotation and awaits that."""


def of_credential(credential: CredentialSection, deployed: Deployed) -> Iterator[Line]:
    """What a credential adds."""
    often = rotations(credential.interval)
    yield aws_line(
        "Step Functions, start of each rotation",
        "transitions",
        often * (STATES_OF_AN_ITEM + assumed.CHILD_STARTS),
    )
    yield aws_line("S3, documents of the plan read", "s3 get STANDARD", often * len(FUNCTIONS))
    yield from written_logs("its starts", often * assumed.EVENTS_OF_ITEM * assumed.EVENT_IN_LOG, deployed)
    kept = often * assumed.REPORT_OF_A_ROTATION * month(timedelta(days=deployed.log_retention_days))
    yield aws_line("S3, reports kept", "s3 storage STANDARD", kept / assumed.GIGABYTE)


def of_deployment(plan: Plan, deployed: Deployed) -> Iterator[Line]:
    """What shards add, by their number."""
    often = sum((rotations(period(shard.interval)) for shard in plan.shards), Fraction())
    yield aws_line("EventBridge, a rule for each shard", "rules", often)
    yield aws_line("Step Functions, starts of shards", "transitions", often * STATES_OF_A_SHARD)
    yield aws_line("S3, lists of shards read", "s3 get STANDARD", often)
    yield aws_line("S3, reports written", "s3 put STANDARD", often * assumed.REPORT_WRITES)
    yield from written_logs("shards", often * assumed.EVENTS_OF_SHARD * assumed.EVENT_IN_LOG, deployed)
    yield aws_line("X-Ray, traces of shards", "traces", often)
