"""One execution of the state machine: where the machine is, and what it does until it ends."""

from lockstep.aws.clients import aws_client
from lockstep.cli.output import wrong_use
from lockstep.operate.execution import _calls
from lockstep.plan.model import Plan
from lockstep.protocol.names import state_machine_name


def located(plan: Plan, stack: str, alias: str) -> str:
    """The ARN of an alias of the stack's state machine, in the plan's region and the caller's account.

    Raises:
        AwsCallRefusedError: AWS does not say which account that is.
    """
    region = plan.lock.region
    with _calls():
        caller = aws_client("sts", region).get_caller_identity()
        partition, account = str(caller["Arn"]).split(":")[1], caller["Account"]
    return f"arn:{partition}:states:{region}:{account}:stateMachine:{state_machine_name(stack)}:{alias}"


def region_of(state_machine_arn: str) -> str:
    """The region in an ARN, or exit code 2."""
    parts = state_machine_arn.split(":")
    region = "".join(parts[3:4])
    if parts[:1] + parts[2:3] != ["arn", "states"] or not region:
        raise wrong_use("--state-machine-arn: not the ARN of a state machine (arn:aws:states:…)")
    return region
