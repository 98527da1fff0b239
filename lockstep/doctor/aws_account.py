"""Checks of AWS: the identity, the regions, the clock, the quotas."""

from collections.abc import Iterator, Mapping

from lockstep.doctor import commands
from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.doctor.skew import skew_answer
from lockstep.environment import ClockSkewError
from lockstep.plan import Plan
from lockstep.plan_admins import secrets_region
from lockstep.quotas import Use, Verdict, of_aws

_ACCOUNT = 4
"""The place of the account in an ARN."""
_CODES: Mapping[str, tuple[str, str]] = {
    "EventBridge, rules on the default bus": ("events", "L-244521F2"),
    "Lambda, concurrent executions in the region": ("lambda", "L-B99A9384"),
}
"""Of quotas that an account may have raised: service and code
(https://docs.aws.amazon.com/general/latest/gr/ev.html, https://docs.aws.amazon.com/general/latest/gr/lambda-service.html)."""


def identity(context: Context) -> Iterator[Answer]:
    """Who asks, and whether it is in the account that the plan's ARNs name."""
    caller = context.aws("sts", "get_caller_identity")
    account, arn = str(caller.get("Account", "?")), caller.get("Arn", "?")
    key = context.plan.audit.aws.mac_key
    named = key.split(":")[_ACCOUNT] if key.startswith("arn:") else account
    if named != account:
        yield failed(
            f"account {account}",
            f"the plan's signing key is in account {named}, but these credentials belong to {account}",
            "export AWS_PROFILE=…  # one of that account: aws configure list-profiles",
        )
        return
    yield passed(f"account {account}", f"AWS knows this identity as {arn}")


def clock(context: Context) -> Iterator[Answer]:
    """This clock against that of AWS, whose signatures are valid for five minutes."""
    try:
        yield skew_answer("AWS", context.clock, context.aws.time)
    except ClockSkewError as error:
        yield failed("clock", "it is so wrong that AWS refuses the signatures", error.advice.rstrip("."))


def regions(context: Context) -> Iterator[Answer]:
    """Whether the account may use each region of the plan."""
    known = context.aws("ec2", "describe_regions", AllRegions=True)["Regions"]
    states = {region["RegionName"]: region.get("OptInStatus", "") for region in known}
    for region in regions_of(context.plan):
        state = states.get(region)
        if state is None:
            yield failed(
                region, "AWS has no region of this name", "lockstep plan check  # then correct region"
            )
        elif state == "not-opted-in":
            command = f"aws account enable-region --region-name {region}"
            yield failed(region, "the account has not enabled this region", command)
        else:
            yield passed(region, "the account may use it")


def regions_of(plan: Plan) -> list[str]:
    """The regions of AWS that a plan names."""
    found = (plan.lock.region, secrets_region(plan), plan.audit.aws.region)
    return list(dict.fromkeys(found))


def quotas(context: Context) -> Iterator[Answer]:
    """What the plan needs of each quota, by the account's own limit where AWS tells it."""
    for use in of_aws(context.plan):
        yield quota_answer(_by_account(context, use), context.plan.lock.region)


def _by_account(context: Context, use: Use) -> Use:
    if use.name not in _CODES:
        return use
    service, code = _CODES[use.name]
    asked = {"ServiceCode": service, "QuotaCode": code}
    found = context.aws.found("service-quotas", "get_service_quota", **asked)
    return use.limited(int(found["Quota"]["Value"])) if found else use


def quota_answer(use: Use, region: str) -> Answer:
    """What a need of a quota means."""
    if use.verdict is Verdict.FITS:
        return passed(use.name, str(use))
    tell = warning if use.verdict is Verdict.NEAR else failed
    service, code = _CODES.get(use.name, ("", ""))
    ask = commands.aws(
        region,
        "service-quotas request-service-quota-increase",
        *("--service-code", service, "--quota-code", code, "--desired-value", "…"),
    )
    return tell(use.name, str(use), ask if code else f"lockstep plan check  # {use.change}")


CHECKS = (
    Check(
        id="aws.identity",
        title="identity in AWS",
        looks_at="who the credentials here belong to, and whether that is the account of the plan's signing key",
        means="nothing in AWS can be looked at, or it would be that of another account",
        command="aws sso login",
        ask=identity,
    ),
    Check(
        id="aws.clock",
        title="clock",
        looks_at="this clock against the Date of an answer of AWS; a minute away is a warning",
        means="AWS refuses signatures that are five minutes off",
        command="timedatectl set-ntp true",
        ask=clock,
    ),
    Check(
        id="aws.regions",
        title="regions",
        looks_at="whether each AWS region of the plan exists, and the account has enabled it",
        means="no call in that region succeeds",
        command="aws account enable-region --region-name REGION",
        ask=regions,
        needs="aws.identity",
    ),
    Check(
        id="aws.quotas",
        title="quotas",
        looks_at="what the plan needs of each quota; of rules and of Lambda by the account's own limits",
        means="a deployment or a rotation is refused, or will be with a few more credentials",
        command="aws service-quotas request-service-quota-increase --service-code SERVICE --quota-code CODE",
        ask=quotas,
        needs="aws.identity",
    ),
)
