"""Who may do what by the synthesised policies, by IAM's rules, where a second stack is in the same account.

`docs/iam.md` has every statement, and the first test holds it to that. Then what they come to on what there is, with
the policies of the audit bucket and of the keys that sign, which hold whatever the caller's own policy says.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest

from cdk.bundle import ROOT
from cdk.deployment import DEFINITION
from cdk.resource_policies import BUCKET_ACTIONS, ENTRY_ACTIONS
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol.errors import LockTableUnreachableError
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import Claim, ClaimKind, Lease, LockRecord, Release
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from sandbox.emulators.aws.actions import item_context
from sandbox.emulators.aws.policies import Call, Context, Statement, as_list, decide
from tests.infrastructure import cdk_case as case
from tests.infrastructure.cdk_case import ACCOUNT, AUDIT, BREAK_GLASS, PLANS, REGION, shape
from tests.support.memory import EPOCH

# ---- the page

_ROW = re.compile(r"\| (?P<cells>[^|]+(?: \| [^|]+){4}) \| (?P<why>[^|]+) \|")
IN_OCI = ("generate", "apply_db", "update_secrets", "digest")
NO_RESOURCE = {"DeliverLogs", "FromCodeOnly", "Network", "NotFromCode", "OciToken", "Trace"}
"""The statements on everything: calls that know no resource, or denials."""


def documented(section: str) -> set[tuple[str, ...]]:
    text = (ROOT / "docs" / "iam.md").read_text()
    (part,) = (p for p in text.split("\n## ") if p.startswith(section))
    rows = [match["cells"].split(" | ") for line in part.splitlines() if (match := _ROW.fullmatch(line))]
    return {
        (role, *(cell.replace("<role>", role.replace("_", "-")).replace("\N{EN DASH}", "") for cell in cells))
        for roles, *cells in rows
        if roles != "role" and not roles.startswith("---")
        for role in roles.split(", ")
    }


@pytest.mark.parametrize(
    ("sections", "wanted", "before", "gone"),
    [
        (["The roles"], "plain", None, set()),
        (["With a store in OCI"], "both", "plain", set()),
        (
            ["With sessions"],
            "federated",
            "both",
            {(s, sid) for s in IN_OCI for sid in ("OciKey", "OciKeyKey")},
        ),
        (
            ["With a key of its own", "With events"],
            "readers",
            "both",
            {("apply_db", "OciKey"), ("digest", "OciKey")},
        ),
    ],
)
def test_the_page_lists_what_each_part_of_a_plan_gives_and_takes_away(
    sections: list[str], wanted: str, before: str | None, gone: set[tuple[str, str]]
) -> None:
    had, has = shape(before).rows() if before else set(), shape(wanted).rows()
    assert set().union(*map(documented, sections)) == has - had
    assert {row[:2] for row in had - has} == gone


@pytest.mark.parametrize("name", case.SHAPES)
def test_no_right_is_wider_than_a_kind_of_resource_and_services_alone_assume_the_roles(name: str) -> None:
    found = shape(name)
    for title, statements in found.policies.items():
        for statement in statements:
            assert statement["Effect"] == "Deny" or "*" not in "".join(as_list(statement["Action"])), title
            if "*" in as_list(statement["Resource"]):
                assert statement["Sid"] in NO_RESOURCE, (title, statement)
    services = {
        statement["Principal"]["Service"]
        for role, properties in ((n, r["Properties"]) for n, r in found.resources("AWS::IAM::Role").items())
        for statement in properties["AssumeRolePolicyDocument"]["Statement"]
        if not role.startswith("OciRunnerRole")
    }
    assert services == {"events.amazonaws.com", "lambda.amazonaws.com", "states.amazonaws.com"}


# ---- what it comes to

GENERATE, APPLY, UPDATE, AUDITOR = "generate", "apply_db", "update_secrets", "audit"
WATCH, DIGEST, OCI, MACHINE, FLEET = "watch", "digest", "OCI runner", "state machine", "fleet"
FUNCTIONS = {GENERATE, APPLY, UPDATE, AUDITOR, WATCH, DIGEST, "announce"}
CALLS = {
    "dynamodb": "GetItem UpdateItem PutItem DeleteItem Query Scan DeleteTable BatchGetItem",
    "secretsmanager": (
        "DescribeSecret GetSecretValue PutSecretValue UpdateSecretVersionStage DeleteSecret ListSecretVersionIds "
        "PutResourcePolicy RestoreSecret TagResource UntagResource UpdateSecret"
    ),
    "kms": (
        "Decrypt GenerateDataKey Encrypt ReEncryptFrom ScheduleKeyDeletion CreateGrant GenerateMac VerifyMac Sign "
        "Verify GetPublicKey"
    ),
    "s3": "GetObject PutObject DeleteObject DeleteObjectVersion PutObjectAcl ListBucket PutBucketPolicy",
    "states": "StartExecution StopExecution",
    "sts": "GetWebIdentityToken",
    "rds-db": "connect",
}
"""What is tried of each service; a row says who may make which, and nobody may make the others."""
ITEM, REGISTRY = "multi-cloud/app_user", "account#orders:3306#app_user@%"
May = Mapping[str, set[str]]
NOTHING: May = {}


class Row(NamedTuple):
    """One resource in one situation, and by call the roles that may make it."""

    resource: str
    context: Context
    may: May
    stack: str = "both"


def secret_arn(name: str = ITEM) -> str:
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf"


def tags(kind: str, stack: str = "lockstep") -> Context:
    return {f"aws:ResourceTag/{STACK_TAG}": (stack,), f"aws:ResourceTag/{SECRET_TAG}": (kind,)}


TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/lockstep"
READ_LOCK, WRITE_LOCK = {GENERATE, UPDATE, APPLY, AUDITOR, OCI}, {GENERATE, UPDATE, OCI, MACHINE}
# A Scan has no key, and reads every item.
SCAN = {"Scan": {WATCH, OCI}}
READ_AND_SCAN: May = {"GetItem": READ_LOCK, **SCAN}


def item(*keys: str, attributes: tuple[str, ...] = ("credential_id",)) -> Context:
    found = {"dynamodb:LeadingKeys": keys, "dynamodb:Attributes": attributes}
    return {key: value for key, value in found.items() if value}


def readers(*roles: str) -> dict[str, set[str]]:
    return {call: {*roles} for call in ("DescribeSecret", "GetSecretValue")}


WRITERS = {"PutSecretValue": {GENERATE, OCI}, "UpdateSecretVersionStage": {UPDATE, OCI}}
BY_KIND: Mapping[SecretKind, May] = {
    SecretKind.APP_USER: {**readers(GENERATE, APPLY, UPDATE, OCI), **WRITERS},
    SecretKind.CONNECTION_BLOB: {**readers(GENERATE, UPDATE, OCI), **WRITERS},
    SecretKind.ADMIN: readers(APPLY),
    SecretKind.RUNNER_KEY: readers(GENERATE, APPLY, UPDATE, DIGEST),
    SecretKind.RUNNER_READER_KEY: NOTHING,
}
LISTED, MANAGED = (
    "arn:aws:secretsmanager:eu-west-1:444455556666:secret:dba/orders-AbCdEf",
    "rds!cluster-1f2e3d",
)


def through(service: str, key: str, value: str) -> Context:
    where = {"kms:ViaService": (f"{service}.{REGION}.amazonaws.com",)}
    return {**where, f"kms:EncryptionContext:{key}": (value,)}


OF_SECRET = through("secretsmanager", "SecretARN", secret_arn())
OF_TABLE = through("dynamodb", "aws:dynamodb:tableName", "lockstep")
DECRYPTS = {"Decrypt": {GENERATE, APPLY, UPDATE, DIGEST, OCI}, "GenerateDataKey": {GENERATE, OCI}}
IN_AWS = {"Decrypt": {GENERATE, APPLY, UPDATE}, "GenerateDataKey": {GENERATE}}
SIGNING: Context = {
    "kms:MacAlgorithm": ("HMAC_SHA_256",),
    "kms:MessageType": ("DIGEST",),
    "kms:SigningAlgorithm": ("RSASSA_PKCS1_V1_5_SHA_256",),
}
PURPOSES: Mapping[str, May] = {
    "alias/lockstep-audit": {"GenerateMac": {AUDITOR}, "VerifyMac": {AUDITOR, DIGEST}},
    # An order is recognised, and signed by people alone.
    "alias/lockstep-orders": {"VerifyMac": {AUDITOR, DIGEST}},
    "alias/lockstep-digests": {"Sign": {DIGEST}, "GetPublicKey": {DIGEST}},
}
ANY_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b2c3d-0000-0000-0000-000000000000"
OWN = {"aws:ResourceAccount": (ACCOUNT,), "s3:prefix": ("aws/",)}
NEW = {**OWN, "s3:if-none-match": ("*",), "s3:x-amz-storage-class": ("STANDARD",)}
SEES: May = {call: {AUDITOR, DIGEST} for call in ("GetObject", "ListBucket")}
ENTRY = f"arn:aws:s3:::{AUDIT}/aws/a.b/000000000001.json"
MACHINES = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine"
ASKS: Context = {
    "lambda:SourceFunctionArn": (f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:lockstep-generate:7",),
    "sts:DurationSeconds": ("300",),
    "sts:IdentityTokenAudience": ("lockstep",),
    "sts:SigningAlgorithm": ("RS256",),
}
"""What STS knows of the request of one step."""
ROWS = [
    Row(TABLE, item(ITEM), {**READ_AND_SCAN, "UpdateItem": WRITE_LOCK}),
    *(Row(TABLE, item(*keys), SCAN) for keys in ((REGISTRY,), (ITEM, REGISTRY), ())),
    # That a request names nothing does not pass as one whose every name is listed.
    *(Row(TABLE, item(ITEM, attributes=named), READ_AND_SCAN) for named in ((), ("owned_by",))),
    *(Row(secret_arn(), tags(kind), may) for kind, may in BY_KIND.items()),
    # Of another stack; without a stack, or a kind.
    *(Row(secret_arn(), tags(kind, "lockstep-two"), NOTHING) for kind in SecretKind),
    *(Row(secret_arn(), {key: value}, NOTHING) for key, value in tags(SecretKind.APP_USER).items()),
    *(Row(arn, {}, readers(APPLY), "trial") for arn in (LISTED, secret_arn(MANAGED))),
    Row(LISTED.replace("orders", "other"), {}, NOTHING, "trial"),
    *(
        Row(f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-1/{user}", {}, {"connect": roles}, "trial")
        for user, roles in (("lockstep_rotator", {APPLY, OCI}), ("app_user", set[str]()))
    ),
    Row("alias/lockstep", OF_SECRET, DECRYPTS),
    Row("alias/lockstep", OF_TABLE, {"Decrypt": READ_LOCK | WRITE_LOCK | {WATCH}}),
    # For a secret directly, for another table.
    Row("alias/lockstep", {"kms:EncryptionContext:SecretARN": (secret_arn(),)}, NOTHING),
    Row("alias/lockstep", through("dynamodb", "aws:dynamodb:tableName", "lockstep-two"), NOTHING),
    *(Row(key, OF_SECRET, IN_AWS, "all adopted") for key in (case.ADOPTED_KEY, case.OTHER_KEY)),
    *(Row(alias, SIGNING, may) for alias, may in PURPOSES.items()),
    # An adopted key that signs is known by its alias.
    *(
        Row(ANY_KEY, {**SIGNING, "kms:ResourceAliases": (alias,)}, may, "all adopted")
        for alias, may in {**PURPOSES, "alias/lockstep-audit-two": NOTHING}.items()
    ),
    Row(ENTRY, NEW, {**SEES, "PutObject": {AUDITOR}}),
    # One that is not new, one in the bucket of another account.
    Row(ENTRY, OWN, SEES),
    Row(ENTRY, {**NEW, "aws:ResourceAccount": ("999988887777",)}, NOTHING),
    # The fleet starts the machine by its alias alone: Step Functions asks IAM for the machine.
    *(
        Row(f"{MACHINES}:lockstep", {"states:StateMachineQualifier": by}, {"StartExecution": roles})
        for by, roles in ((("live",), {FLEET}), *((other, set[str]()) for other in (("gate",), ())))
    ),
    Row("*", ASKS, {"GetWebIdentityToken": {GENERATE}}, "federated"),
    Row("*", {**ASKS, "sts:IdentityTokenAudience": ("lockstep", "another")}, NOTHING, "federated"),
]
"""What the page's statements come to; each of their conditions is on the page."""


@pytest.mark.parametrize("row", ROWS)
def test_only_these_roles_may(row: Row) -> None:
    found = shape(row.stack)
    resource = found.key(row.resource) if row.resource.startswith("alias/") else row.resource
    service = "sts" if resource == "*" else resource.split(":")[2]
    assert row.may.keys() <= {*CALLS[service].split()}
    for name in CALLS[service].split():
        on = resource.partition("/")[0] if "Bucket" in name else resource
        call = Call(action=f"{service}:{name}", resource=on, context=row.context)
        assert who_may(call, found.policies) == row.may.get(name, set()), name
        # Whoever takes the credentials out of a function may do nothing with them, but what a service asks of KMS,
        # and log in to a database.
        taken = replace(call, context={**row.context, "lambda:SourceFunctionArn": ()})
        if "kms:ViaService" not in row.context and service != "rds-db":
            assert not who_may(taken, found.policies) & FUNCTIONS, name


def who_may(call: Call, policies: Mapping[str, list[Statement]]) -> set[str]:
    """The roles that may make a call: functions from their code. A key without a value is absent."""
    may = set()
    for role, statements in policies.items():
        code = (
            (f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:lockstep-{role.replace('_', '-')}",)
            if role in FUNCTIONS
            else ()
        )
        there = {k: v for k, v in {"lambda:SourceFunctionArn": code, **call.context}.items() if v}
        may |= {role} if decide(replace(call, context=there), statements).allowed else set()
    return may


def test_every_rule_and_nothing_else_may_write_to_the_dead_letter_queue() -> None:
    found = shape("both")
    (policy,) = found.each("AWS::SQS::QueuePolicy")
    statements = [
        s
        for s in found.resolved(policy["PolicyDocument"]["Statement"])
        if s["Effect"] == "Allow" and s["Principal"] == {"Service": "events.amazonaws.com"}
    ]
    queue = found.arn(found.id_of("AWS::SQS::Queue"))
    sources = {f"arn:aws:events:{REGION}:{ACCOUNT}:rule/lockstep": False}
    for name, rule in found.resources("AWS::Events::Rule").items():
        target = found.resolved(rule["Properties"]["Targets"][0])
        sources[found.arn(name)] = "DeadLetterConfig" in target or target["Arn"] == queue
    for source, may in sources.items():
        call = Call(action="sqs:SendMessage", resource=queue, context={"aws:SourceArn": (source,)})
        assert decide(call, statements).allowed is may, source


# ---- what the code sends to the lock table


def requests() -> Iterator[dict[str, Any]]:
    """What the adapter sends for every write of the lock. Those of AWS are made where the stack is deployed."""
    lease = Lease(credential_id=ITEM, holder="run-1", fence=7)
    claim = Claim(kind=ClaimKind.NEW, generation=7, base_generation=6, rotation_id="run-1")
    seen = LockRecord(credential_id=ITEM, plan="p", valid=frozenset({5}))
    taken: dict[str, Any] = {"holder": "run-1", "now": EPOCH, "expires_at": EPOCH + timedelta(minutes=9)}
    times: dict[str, Any] = dict.fromkeys(("next_due_at", "not_before", "rotated_at"), EPOCH)
    done = Release(current_generation=7, valid=frozenset({6, 7}), proven=("db-1",), **times)
    writes: list[Callable[[DynamoDbLock], object]] = [
        lambda lock: lock.claim(lease, claim, over=seen, plan="p", served=(4,)),
        lambda lock: lock.claim(lease, claim, over=replace(seen, claim=claim), plan="p", served=()),
        lambda lock: lock.begin_promotion(lease, claim, now=EPOCH),
        lambda lock: lock.acquire(**taken, force=False, due_by=EPOCH),
        lambda lock: lock.release(lease, None, proven=["db-1"]),
        lambda lock: lock.release(lease, done, entry=Recorded(stream="oci", seq=3, hash="d" * 64)),
    ]
    for write in writes:
        client = Mock()
        client.update_item.side_effect = TimeoutError
        with pytest.raises(LockTableUnreachableError):
            write(DynamoDbLock(client, "lockstep", ITEM))
        yield client.update_item.call_args.kwargs


def may_send(request: dict[str, Any]) -> set[str]:
    context = {"dynamodb:LeadingKeys": (ITEM,), **item_context("UpdateItem", request)}
    call = Call(action="dynamodb:UpdateItem", resource=TABLE, context=context)
    return who_may(call, shape("both").policies)


def test_the_standby_may_send_each_write_and_the_state_machine_its_own_with_its_own_head() -> None:
    """Protocol E14."""
    for request in requests():
        assert {OCI, AUDITOR} & may_send(request) == {OCI}, request
    states = json.loads(DEFINITION.read_text())["States"]
    update = "arn:aws:states:::dynamodb:updateItem"
    tasks = {name: s["Arguments"] for name, s in states.items() if s.get("Resource") == update}
    assert {"AcquireLock", "ReleaseLock"} < tasks.keys()
    for name, arguments in tasks.items():
        moves = "ExpressionAttributeNames" in arguments
        assert may_send(arguments) == ({MACHINE} if moves else {MACHINE, OCI}), name
        if moves:
            own = {**arguments, "ExpressionAttributeNames": {"#head": "head_oci"}}
            assert may_send(own) == {OCI}, name


# ---- the policies of the audit bucket, of the plan bucket, and of keys that sign

IAM = f"arn:aws:iam::{ACCOUNT}"
BUCKET, OF_A_DIGEST, ELSE = (f"arn:aws:s3:::{AUDIT}{name}" for name in ("", "/digests/1.json", "/anything"))
ROLE_OF_AUDIT, ROLE_OF_DIGEST = (f"{IAM}:role/lockstep-{name}-{REGION}" for name in ("audit", "digest"))
DEPLOYER = f"{IAM}:role/cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}"
OPERATOR = f"{IAM}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Operator_0123456789abcdef"
OTHERS = {
    *(f"{IAM}:{who}" for who in ("root", "role/admin", "role/lockstep-FunctionsGenerateRole-0123456789ab")),
    *(who.replace(ACCOUNT, "999988887777") for who in (BREAK_GLASS, ROLE_OF_AUDIT)),
    *(f"{BREAK_GLASS}-too", f"{IAM}:role/x/break-glass", f"{IAM}:user/break-glass"),
    "",  # anonymous
}
EVERYONE = {*OTHERS, ROLE_OF_AUDIT, ROLE_OF_DIGEST, OPERATOR, BREAK_GLASS, DEPLOYER}
NOBODY = set[str]()


@cache
def policy_of(name: str, stack: str) -> list[Statement]:
    """The policy of a bucket, or of the key that has an alias; before it that of an administrator."""
    found = shape(stack)
    if name.startswith("alias/"):
        alias = found.properties("AWS::KMS::Alias", AliasName=name)
        document = found.all[alias["TargetKeyId"]["Fn::GetAtt"][0]]["Properties"]["KeyPolicy"]
    else:
        of_buckets = {found.resolved(p["Bucket"]): p for p in found.each("AWS::S3::BucketPolicy")}
        document = of_buckets[name]["PolicyDocument"]
    statements: list[Statement] = found.resolved(document["Statement"])
    return [{"Effect": "Allow", "Action": "*", "Resource": "*"}, *statements]


def whom(action: str, resource: str, stack: str = "both", **context: str) -> set[str]:
    """Who of those whose own policy allows everything may do this: to an object or bucket, or with a key."""
    policy = policy_of(
        resource.rpartition(":::")[2].partition("/")[0] if ":::" in resource else resource, stack
    )
    keys = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3", **context}
    may = set()
    for who in EVERYONE:
        told = {key: (value,) for key, value in {**keys, "aws:PrincipalArn": who}.items() if value}
        call = Call(action=action, resource=resource, context=told)
        may |= {who} if decide(call, policy).allowed else set()
    return may


@pytest.mark.parametrize(
    ("stack", "deletes", "writes", "changes"),
    [
        ("both", {BREAK_GLASS}, {ROLE_OF_AUDIT, OPERATOR}, {BREAK_GLASS, DEPLOYER}),
        # Without settings.
        ("plain", NOBODY, {ROLE_OF_AUDIT}, {DEPLOYER}),
        # A trial: whoever administers it removes the policy, and then the entries.
        ("trial", NOBODY, {ROLE_OF_AUDIT}, EVERYONE),
    ],
)
def test_who_changes_the_audit_bucket(
    stack: str, deletes: set[str], writes: set[str], changes: set[str]
) -> None:
    """Protocol E13."""
    for action in ENTRY_ACTIONS:
        for written in (ENTRY, OF_A_DIGEST, ELSE):
            assert whom(action, written, stack) == deletes, (action, written)
    for action in BUCKET_ACTIONS:
        assert whom(action, BUCKET, stack) == changes, action
    # Entries and digests are written by different principals, and nobody writes over one.
    for written, writers in ((ENTRY, writes), (OF_A_DIGEST, {ROLE_OF_DIGEST})):
        assert whom("s3:PutObject", written, stack, **{"s3:if-none-match": "*"}) == writers
        assert whom("s3:PutObject", written, stack) == NOBODY


def test_other_calls_stay_with_the_callers_own_policy_but_plain_http_and_writing_over_a_plan() -> None:
    for action, resource in (
        *((f"s3:{action}", ENTRY) for action in ("GetObject", "GetObjectVersion", "AbortMultipartUpload")),
        *((f"s3:{action}", BUCKET) for action in ("ListBucket", "GetBucketPolicy", "PutBucketTagging")),
        ("s3:PutObject", f"arn:aws:s3:::{PLANS}/reports/1"),
        ("s3:DeleteObject", f"arn:aws:s3:::{PLANS}/plans/1"),
    ):
        assert whom(action, resource) == EVERYONE, action
        assert whom(action, resource, **{"aws:SecureTransport": "false"}) == NOBODY, action
    assert whom("s3:PutObject", f"arn:aws:s3:::{PLANS}/plans/1") == NOBODY
    assert whom("s3:PutObject", f"arn:aws:s3:::{PLANS}/plans/1", **{"s3:if-none-match": "*"}) == EVERYONE


@pytest.mark.parametrize(
    ("alias", "signs", "signers", "without_settings"),
    [
        ("alias/lockstep-audit", "kms:GenerateMac", {ROLE_OF_AUDIT}, {ROLE_OF_AUDIT}),
        ("alias/lockstep-orders", "kms:GenerateMac", {OPERATOR}, NOBODY),
        ("alias/lockstep-digests", "kms:Sign", {ROLE_OF_DIGEST}, {ROLE_OF_DIGEST}),
    ],
)
def test_runs_orders_and_digests_are_signed_by_different_principals(
    alias: str, signs: str, signers: set[str], without_settings: set[str]
) -> None:
    """Who administers keys still can, so nobody is locked out."""
    assert whom(signs, alias, "plain") == without_settings
    assert whom(signs, alias) == signers
    for other in ("VerifyMac", "GetPublicKey", "PutKeyPolicy", "ScheduleKeyDeletion", "DescribeKey"):
        assert whom(f"kms:{other}", alias) == EVERYONE, other
