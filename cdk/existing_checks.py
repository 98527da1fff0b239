"""What else a deployment needs: keys, topics, network and boundary that it names, and names that are free."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cdk.account import Account, Found, UnansweredError
from cdk.settings import Deployment
from cdk.template import Template
from lockstep.tags import SECRET_TAG, STACK_TAG

_URL_SUFFIXES = {"aws-cn": "amazonaws.com.cn"}
_NO_SUCH_NETWORK = ("InvalidVpcID", "InvalidSubnetID", "InvalidSubnet", "InvalidGroup", "InvalidGroupId")


def problems(
    deployment: Deployment, template: Template, account: Account, managed: frozenset[tuple[str, str]]
) -> list[str]:
    """What stops the deployment, each with what to change."""
    checks: list[Callable[[], Iterator[str]]] = [
        lambda: _encryption_key(deployment, account),
        lambda: _mac_key(deployment, account),
        lambda: _topics(deployment, account),
        lambda: _network(deployment, account),
        lambda: _boundary(deployment, account),
        lambda: _taken_names(template, account, managed),
    ]
    found: list[str] = []
    for check in checks:
        try:
            found += check()
        except UnansweredError as error:
            found.append(str(error))
    return found


def untagged(
    deployment: Deployment, secrets: Mapping[str, Found], adopted: Mapping[str, set[str]]
) -> Iterator[str]:
    """Adopted secrets that no policy knows yet."""
    stack = deployment.settings.stack
    lacking = [
        name
        for name in sorted(adopted.get("AWS::SecretsManager::Secret", ()))
        if secrets[name].tags.get(STACK_TAG) != stack or SECRET_TAG not in secrets[name].tags
    ]
    if lacking:
        yield (
            f"{', '.join(lacking)}: the functions may use a secret only with its tags; `lockstep adopt --stack {stack} "
            "--yes` sets them"
        )


def _encryption_key(deployment: Deployment, account: Account) -> Iterator[str]:
    arn = deployment.settings.adopt.encryption_key
    if arn is None:
        return
    if arn.split(":")[3] != account.region:
        yield f"adopt.encryption_key: {arn} is not in {account.region}"
        return
    found = account.key(arn, spec="SYMMETRIC_DEFAULT", usage="ENCRYPT_DECRYPT")
    if found is None:
        yield f"adopt.encryption_key: {arn} does not exist"
        return
    yield from (f"adopt.encryption_key: {lack}" for lack in found.lacks)
    if arn.split(":")[4] != account.id:
        # Only its own account may read its policy.
        return
    statements = account.key_policy(arn)["Statement"]
    if not any(_delegates(s, account) for s in statements):
        text = json.dumps(_delegation(account), separators=(",", ":"))
        yield f"adopt.encryption_key: its policy lets no IAM policy of the account grant its use; add to it {text}"
    for service, statement in _needed(account).items():
        if not any(_lets_service(s, service) for s in statements):
            text = json.dumps(statement, separators=(",", ":"))
            yield f"adopt.encryption_key: its policy does not let {service} use it; add to it {text}"


def _needed(account: Account) -> Mapping[str, Mapping[str, Any]]:
    """The statements that log groups and alarms need, by service, as Lockstep's own key has them."""
    suffix = _URL_SUFFIXES.get(account.partition, "amazonaws.com")
    logs = f"logs.{account.region}.{suffix}"
    groups = f"arn:{account.partition}:logs:{account.region}:{account.id}:log-group:/aws/*"
    return {
        logs: {
            "Effect": "Allow",
            "Principal": {"Service": logs},
            "Action": [
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:Encrypt",
                "kms:GenerateDataKey*",
                "kms:ReEncrypt*",
            ],
            "Resource": "*",
            "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
        },
        "cloudwatch.amazonaws.com": {
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceAccount": account.id}},
        },
    }


def _delegation(account: Account) -> Mapping[str, Any]:
    """The statement by which IAM policies count (https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html)."""
    root = f"arn:{account.partition}:iam::{account.id}:root"
    return {"Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"}


def _delegates(statement: Mapping[str, Any], account: Account) -> bool:
    principal = statement.get("Principal", {})
    principals = _listed(principal.get("AWS", [])) if isinstance(principal, dict) else [principal]
    whole_account = {_delegation(account)["Principal"]["AWS"], account.id, "*"}
    actions = {str(action) for action in _listed(statement.get("Action", []))}
    return (
        statement["Effect"] == "Allow"
        and bool(whole_account & set(principals))
        and bool(actions & {"*", "kms:*", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKey*"})
    )


def _lets_service(statement: Mapping[str, Any], service: str) -> bool:
    principal = statement.get("Principal", {})
    services = _listed(principal.get("Service", [])) if isinstance(principal, dict) else []
    actions = {str(action) for action in _listed(statement.get("Action", []))}
    return (
        statement["Effect"] == "Allow"
        and service in services
        and bool(actions & {"*", "kms:*", "kms:GenerateDataKey*", "kms:GenerateDataKey"})
    )


def _mac_key(deployment: Deployment, account: Account) -> Iterator[str]:
    named = deployment.plan.audit.aws.mac_key
    if named.startswith("alias/"):
        return
    found = account.key(named, spec="HMAC_256", usage="GENERATE_VERIFY_MAC")
    if found is None:
        yield f"audit.aws.mac_key: {named} does not exist; give an alias, and the key is made"
        return
    yield from (f"audit.aws.mac_key: {lack}" for lack in found.lacks)


def _topics(deployment: Deployment, account: Account) -> Iterator[str]:
    for severity, arn in deployment.settings.adopt.topics.model_dump().items():
        if arn is None:
            continue
        answer = account.ask("sns", "get_topic_attributes", TopicArn=arn)
        if answer is None:
            yield f"adopt.topics.{severity}: {arn} does not exist"
        elif answer["Attributes"].get("KmsMasterKeyId", "").endswith("alias/aws/sns"):
            # https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
            yield (
                f"adopt.topics.{severity}: {arn} is encrypted with alias/aws/sns, which alarms cannot use; encrypt it "
                "with a key whose policy lets cloudwatch.amazonaws.com use it"
            )


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


def _taken_names(template: Template, account: Account, managed: frozenset[tuple[str, str]]) -> Iterator[str]:
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
        "AWS::CloudWatch::Dashboard": (
            "DashboardName",
            lambda name: account.ask("cloudwatch", "get_dashboard", DashboardName=name),
        ),
    }
    rules = _rules(template.stack, account)
    for resource in template.resources.values():
        kind, properties = resource["Type"], resource.get("Properties", {})
        if kind == "AWS::Events::Rule":
            name = properties["Name"]
            exists = name in rules
        elif kind in questions:
            naming, ask = questions[kind]
            name = properties[naming]
            exists = not _manages(managed, kind, name) and ask(name) is not None
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


def _manages(managed: frozenset[tuple[str, str]], kind: str, name: str) -> bool:
    """Whether the stack manages it. Its physical id is the name, or ends with it."""
    return any(
        kind == of_kind
        and name in (physical_id, physical_id.rpartition(":")[2], physical_id.rpartition("/")[2])
        for of_kind, physical_id in managed
    )


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
