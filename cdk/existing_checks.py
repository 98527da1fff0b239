"""What else a deployment needs: keys, topics, network and boundary that it names, and names that are free."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from cdk import existing_keys as keys
from cdk.account import Account, UnansweredError
from cdk.deployment import Deployment
from cdk.estate import Adopt
from cdk.in_oci import client_key_name
from cdk.keys import digest_alias
from cdk.template import Template
from lockstep.protocol.names import oci_runner_name

_NO_SUCH_NETWORK = ("InvalidVpcID", "InvalidSubnetID", "InvalidSubnet", "InvalidGroup", "InvalidGroupId")


def problems(
    deployment: Deployment,
    template: Template,
    account: Account,
    *,
    adopt: Adopt,
    managed: frozenset[tuple[str, str]],
) -> list[str]:
    """What stops the deployment, each with what to change.

    Args:
        deployment: What is to be deployed.
        template: Its template when nothing is adopted.
        account: Where to.
        adopt: What is adopted.
        managed: Type and physical id of what the stack manages.
    """
    stack, audit = deployment.settings.stack, deployment.plan.audit.aws
    signing = (
        (keys.MAC_KEY, audit.mac_key, adopt.mac_key),
        (keys.ORDER_KEY, audit.order_key, adopt.order_key),
        (keys.DIGEST_KEY, digest_alias(stack), adopt.digest_key),
        (keys.CLIENT_KEY, client_key_name(deployment.plan), adopt.client_key),
    )
    checks: list[Callable[[], Iterator[str]]] = [
        lambda: keys.encryption_key(deployment, account),
        *(
            partial(keys.signing_key, key, named, account, stack, adopted=ours)
            for key, named, ours in signing
        ),
        lambda: keys.other_keys(adopt.keys, account, stack),
        lambda: _network(deployment, account),
        lambda: _boundary(deployment, account),
        lambda: _taken_names(deployment, template, account, managed),
    ]
    found: list[str] = []
    for check in checks:
        try:
            found += check()
        except UnansweredError as error:
            found.append(str(error))
    return found


def _network(deployment: Deployment, account: Account) -> Iterator[str]:
    vpc = deployment.settings.vpc
    if vpc is None:
        return
    subnets = _described(account, "describe_subnets", "SubnetIds", vpc.subnet_ids, "Subnets")
    zones = dict(zip(vpc.subnet_ids, vpc.availability_zones, strict=True))
    for subnet in subnets or ():
        name = subnet["SubnetId"]
        if subnet["VpcId"] != vpc.id:
            yield f"vpc.subnet_ids: {name} is in {subnet['VpcId']}"
        elif subnet["AvailabilityZone"] != zones[name]:
            yield f"vpc.availability_zones: {name} is in {subnet['AvailabilityZone']}"
    groups = _described(
        account, "describe_security_groups", "GroupIds", vpc.security_group_ids, "SecurityGroups"
    )
    for group in groups or ():
        if group["VpcId"] != vpc.id:
            yield f"vpc.security_group_ids: {group['GroupId']} is in {group['VpcId']}"
    if subnets is None:
        yield f"vpc.subnet_ids: not all of {', '.join(vpc.subnet_ids)} exist in {account.region}"
    if groups is None:
        yield f"vpc.security_group_ids: not all of {', '.join(vpc.security_group_ids)} exist in {account.region}"


def _described(
    account: Account, operation: str, parameter: str, ids: Sequence[str], key: str
) -> list[Any] | None:
    """What EC2 says of each id; None: it does not know one of them."""
    if not ids:
        return []
    try:
        answer: list[Any] = account.ask("ec2", operation, **{parameter: list(ids)})[key]
    except UnansweredError as error:
        if any(code in str(error) for code in _NO_SUCH_NETWORK):
            return None
        raise
    return answer


def _boundary(deployment: Deployment, account: Account) -> Iterator[str]:
    named = deployment.settings.permissions_boundary
    if named is None:
        return
    arn = named if named.startswith("arn:") else f"arn:{account.partition}:iam::{account.id}:policy/{named}"
    if account.ask("iam", "get_policy", PolicyArn=arn) is None:
        yield f"permissions_boundary: {arn} does not exist"


def _taken_names(
    deployment: Deployment, template: Template, account: Account, managed: frozenset[tuple[str, str]]
) -> Iterator[str]:
    """Names that cannot be adopted, and that something else has."""
    arn = f"{account.region}:{account.id}"
    questions: Mapping[str, tuple[str, Callable[[str], object]]] = {
        "AWS::Lambda::Function": (
            "FunctionName",
            lambda name: account.ask("lambda", "get_function_configuration", FunctionName=name),
        ),
        "AWS::StepFunctions::StateMachine": (
            "StateMachineName",
            lambda name: account.ask(
                "stepfunctions",
                "describe_state_machine",
                stateMachineArn=f"arn:{account.partition}:states:{arn}:stateMachine:{name}",
            ),
        ),
        "AWS::SNS::Topic": (
            "TopicName",
            lambda name: account.ask(
                "sns", "get_topic_attributes", TopicArn=f"arn:{account.partition}:sns:{arn}:{name}"
            ),
        ),
        "AWS::IAM::ManagedPolicy": (
            "ManagedPolicyName",
            lambda name: account.ask(
                "iam", "get_policy", PolicyArn=f"arn:{account.partition}:iam::{account.id}:policy/{name}"
            ),
        ),
        "AWS::IAM::Role": ("RoleName", lambda name: account.ask("iam", "get_role", RoleName=name)),
        "AWS::CloudWatch::Dashboard": (
            "DashboardName",
            lambda name: account.ask("cloudwatch", "get_dashboard", DashboardName=name),
        ),
    }
    adopted = {f"{template.stack}-{s}" for s, arn in deployment.settings.adopt.topics if arn}
    listed = {
        "AWS::Events::Rule": ("Name", _rules(template.stack, account)),
        "AWS::CloudWatch::Alarm": ("AlarmName", _alarms(template.stack, account)),
    }
    for resource in template.resources.values():
        kind, properties = resource["Type"], resource.get("Properties", {})
        if kind in listed:
            naming, taken = listed[kind]
            name = properties[naming]
            exists = name in taken
        elif kind == "AWS::SNS::Topic" and properties["TopicName"] in adopted:
            # The stack makes none for this severity.
            continue
        elif deployment.settings.adopt.oci_role and properties.get("RoleName") == oci_runner_name(
            template.stack
        ):
            # The stack makes none.
            continue
        elif kind in questions:
            naming, ask = questions[kind]
            if naming not in properties:
                # CloudFormation makes up the name.
                continue
            name = properties[naming]
            try:
                exists = not _manages(managed, kind, name) and ask(name) is not None
            except UnansweredError as error:
                yield f"{kind} {name}: whether it exists is not known: {error}"
                continue
        else:
            continue
        if exists and not _manages(managed, kind, name):
            yield (
                f"{kind} {name} exists, and this stack does not manage it: give the setting stack another name, or "
                "delete it"
            )


def _rules(stack: str, account: Account) -> set[str]:
    pages = account.pages("events", "list_rules", NamePrefix=f"{stack}-")
    return {rule["Name"] for page in pages for rule in page["Rules"]}


def _alarms(stack: str, account: Account) -> set[str]:
    pages = account.pages("cloudwatch", "describe_alarms", AlarmNamePrefix=f"{stack}-")
    return {alarm["AlarmName"] for page in pages for alarm in page["MetricAlarms"]}


def _manages(managed: frozenset[tuple[str, str]], kind: str, name: str) -> bool:
    """Whether the stack manages it. Its physical id is the name, or ends with it."""
    return any(
        kind == of_kind
        and name in (physical_id, physical_id.rpartition(":")[2], physical_id.rpartition("/")[2])
        for of_kind, physical_id in managed
    )
