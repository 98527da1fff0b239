"""Who may do what by the synthesised policies, by IAM's rules, where a second stack is in the same account.

`docs/iam.md` has every statement, and a test holds it to that. Here is what they come to on what there is.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from cdk.deployment import DEFINITION
from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import Claim, ClaimKind, Lease, LockRecord, Release, SecretStr
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from sandbox.emulators.aws.item_access import item_context
from sandbox.emulators.aws.policies import Call, Context, Statement, decide
from sandbox.identities import endless
from tests.infrastructure.cdk_case import (
    ACCOUNT,
    ADOPTED_KEY,
    AUDIT,
    LISTED,
    MANAGED,
    OTHER_KEY,
    PLANS,
    REGION,
    STEPS,
    shape,
    with_listed_admins,
)
from tests.support.memory import EPOCH

GENERATE, APPLY, UPDATE, AUDITOR = "generate", "apply_db", "update_secrets", "audit"
WATCH, DIGEST, OCI, MACHINE, FLEET = "watch", "digest", "OCI runner", "state machine", "fleet"
FUNCTIONS = {GENERATE, APPLY, UPDATE, AUDITOR, WATCH, DIGEST}
OF_FUNCTIONS = {*FUNCTIONS, "announce"}
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
    "lambda": "InvokeFunction UpdateFunctionCode",
    "states": "StartExecution StopExecution",
    "events": "PutEvents PutRule",
    "sts": "GetWebIdentityToken",
}
"""What is tried of each service; a row says who may make which, and nobody may make the others."""
ITEM, REGISTRY = "multi-cloud/app_user", "account#orders:3306#app_user@%"
May = Mapping[str, set[str]]
NOTHING: May = {}


@dataclass(frozen=True)
class Row:
    """One resource in one situation, and by call the roles that may make it."""

    what: str
    resource: str
    context: Context = field(default_factory=dict)
    may: May = field(default_factory=dict)
    stack: str = "both"


def secret_arn(name: str = ITEM, *, account: str = ACCOUNT, region: str = REGION) -> str:
    return f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-AbCdEf"


def tags(kind: str, stack: str = "lockstep") -> Context:
    return {f"aws:ResourceTag/{STACK_TAG}": (stack,), f"aws:ResourceTag/{SECRET_TAG}": (kind,)}


# ---- the lock table

TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/lockstep"
READ_LOCK = {GENERATE, APPLY, AUDITOR, OCI}
WRITE_LOCK = {GENERATE, APPLY, UPDATE, OCI, MACHINE}
# A Scan has no key, and reads every item.
SCAN = {"Scan": {WATCH, OCI}}


def item(*keys: str, attributes: tuple[str, ...] = ("credential_id",)) -> Context:
    found = {"dynamodb:LeadingKeys": keys, "dynamodb:Attributes": attributes}
    return {key: value for key, value in found.items() if value}


def may_write(writers: set[str]) -> May:
    return {"GetItem": READ_LOCK, "UpdateItem": writers, **SCAN}


ITEMS = [
    Row("a credential", TABLE, item(ITEM), may_write(WRITE_LOCK)),
    Row("the registry", TABLE, item(REGISTRY), SCAN),
    Row("a credential and the registry", TABLE, item(ITEM, REGISTRY), SCAN),
    Row("no key", TABLE, item(), SCAN),
    Row("another stack's table", f"{TABLE}-two", item(ITEM)),
    # That a request names nothing does not pass as one whose every name is listed.
    Row("a write that names nothing", TABLE, item(ITEM, attributes=()), may_write(set())),
    Row("a write of another attribute", TABLE, item(ITEM, attributes=("owned_by",)), may_write(set())),
]

# ---- secrets, and the keys that encrypt them


def readers(*roles: str) -> dict[str, set[str]]:
    return {call: {*roles} for call in ("DescribeSecret", "GetSecretValue")}


WRITERS = {"PutSecretValue": {GENERATE, OCI}, "UpdateSecretVersionStage": {UPDATE, OCI}}
BY_KIND: Mapping[str, Mapping[SecretKind, May]] = {
    "both": {
        SecretKind.APP_USER: {**readers(GENERATE, APPLY, UPDATE, OCI), **WRITERS},
        SecretKind.CONNECTION_BLOB: {**readers(GENERATE, UPDATE, OCI), **WRITERS},
        SecretKind.ADMIN: readers(APPLY),
        SecretKind.RUNNER_KEY: readers(GENERATE, APPLY, UPDATE, DIGEST),
        SecretKind.RUNNER_READER_KEY: NOTHING,
    },
    # The steps that only read in OCI have a key that may write nothing there.
    "readers": {
        SecretKind.RUNNER_KEY: readers(GENERATE, UPDATE),
        SecretKind.RUNNER_READER_KEY: readers(APPLY, DIGEST),
    },
    # The key that signs for the application is in KMS. Who reads the log for a living has no password to lose (ADR 80).
    "federated": dict.fromkeys((SecretKind.RUNNER_KEY, SecretKind.RUNNER_READER_KEY), NOTHING),
}
SECRETS = [
    Row(f"{kind} of {stack}", secret_arn(), tags(kind), may, stack)
    for stack, kinds in BY_KIND.items()
    for kind, may in kinds.items()
]
STRANGERS = [
    Row(f"{kind} {name}", arn, found)
    for kind in SecretKind
    for name, arn, found in (
        ("of another stack", secret_arn(), tags(kind, "lockstep-two")),
        ("without the stack", secret_arn(), {f"aws:ResourceTag/{SECRET_TAG}": (kind,)}),
        ("of another account", secret_arn(account="999988887777"), tags(kind)),
    )
]
STRANGERS += [Row("no kind", secret_arn(), {f"aws:ResourceTag/{STACK_TAG}": ("lockstep",)})]
BY_ARN = [
    Row(arn, arn, {}, may, "listed")
    for arn, may in (
        (LISTED, readers(APPLY)),
        (secret_arn(MANAGED), readers(APPLY)),
        (LISTED.replace("orders", "other"), NOTHING),
        (secret_arn(MANAGED, region="eu-west-1"), NOTHING),
    )
]


def through(service: str, **encrypted: str) -> Context:
    contexts = {f"kms:EncryptionContext:{k.replace('__', ':')}": (v,) for k, v in encrypted.items()}
    return {"kms:ViaService": (f"{service}.{REGION}.amazonaws.com",), **contexts}


OF_SECRET = through("secretsmanager", SecretARN=secret_arn())
OF_TABLE = through("dynamodb", aws__dynamodb__tableName="lockstep")
DECRYPTS = {"Decrypt": {GENERATE, APPLY, UPDATE, DIGEST, OCI}, "GenerateDataKey": {GENERATE, OCI}}
IN_AWS = {"Decrypt": {GENERATE, APPLY, UPDATE}, "GenerateDataKey": {GENERATE}}
KEYS = [
    Row("for a secret", "alias/lockstep", OF_SECRET, DECRYPTS),
    Row("for the table", "alias/lockstep", OF_TABLE, {"Decrypt": READ_LOCK | WRITE_LOCK | {WATCH}}),
    *(
        Row(f"for {what}", "alias/lockstep", context)
        for what, context in (
            ("a foreign secret", through("secretsmanager", SecretARN=secret_arn(account="999988887777"))),
            ("a secret, directly", {"kms:EncryptionContext:SecretARN": (secret_arn(),)}),
            ("another table", through("dynamodb", aws__dynamodb__tableName="lockstep-two")),
        )
    ),
    *(Row(f"{key}, adopted", key, OF_SECRET, IN_AWS, "all adopted") for key in (ADOPTED_KEY, OTHER_KEY)),
]

# ---- the keys that sign

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
SIGNATURES = [
    *(Row(alias, alias, SIGNING, may) for alias, may in PURPOSES.items()),
    Row("raw", "alias/lockstep-digests", {"kms:MessageType": ("RAW",)}, {"GetPublicKey": {DIGEST}}),
    # An adopted key that signs is known by its alias.
    *(
        Row(f"adopted as {alias}", ANY_KEY, {**SIGNING, "kms:ResourceAliases": (alias,)}, may, "all adopted")
        for alias, may in {**PURPOSES, "alias/lockstep-audit-two": NOTHING}.items()
    ),
]

# ---- buckets

OWN = {"aws:ResourceAccount": (ACCOUNT,)}
NEW = {**OWN, "s3:if-none-match": ("*",), "s3:x-amz-storage-class": ("STANDARD",)}
ARCHIVED = {**NEW, "s3:x-amz-storage-class": ("DEEP_ARCHIVE",)}
ELSEWHERE = {**NEW, "aws:ResourceAccount": ("999988887777",)}
SEES: May = {call: {AUDITOR, DIGEST} for call in ("GetObject", "ListBucket")}
SEES_DIGESTS: May = {call: {DIGEST, OCI} for call in ("GetObject", "ListBucket")}
LISTS = {"ListBucket": FUNCTIONS}


def stored(bucket: str, folder: str, context: Context, may: May) -> Row:
    on = {**context, "s3:prefix": (folder,)}
    return Row(f"{bucket}/{folder} {sorted(context.values())}", f"arn:aws:s3:::{bucket}/{folder}1", on, may)


OBJECTS = [
    stored(AUDIT, "aws/", NEW, {**SEES, "PutObject": {AUDITOR}}),
    stored(AUDIT, "digests/", NEW, {**SEES_DIGESTS, "PutObject": {DIGEST}}),
    *(stored(AUDIT, "aws/", context, SEES) for context in (OWN, ARCHIVED)),
    *(stored(AUDIT, "digests/", context, SEES_DIGESTS) for context in (OWN, ARCHIVED)),
    *(stored(AUDIT, folder, ELSEWHERE, NOTHING) for folder in ("aws/", "digests/")),
    *(stored(AUDIT, folder, NEW, NOTHING) for folder in ("aws", "oci/")),
    stored(PLANS, "plans/d1/credentials/", NEW, {**LISTS, "GetObject": FUNCTIONS}),
    stored(PLANS, "plans/d1/shards/", NEW, {**LISTS, "GetObject": {*FUNCTIONS, FLEET}}),
    stored(PLANS, "reports/20m-00/", NEW, {**LISTS, "GetObject": {FLEET}, "PutObject": {FLEET}}),
]

# ---- what is called

FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
STARTS = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine"
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus"
ASKS: Context = {
    "lambda:SourceFunctionArn": (f"{FUNCTION}:lockstep-generate:7",),
    "sts:DurationSeconds": ("300",),
    "sts:IdentityTokenAudience": ("lockstep",),
    "sts:SigningAlgorithm": ("RS256",),
}
"""What STS knows of the request of one step."""


def starts(machine: str, qualifier: str, *roles: str) -> Row:
    """Step Functions asks IAM for the machine; the alias or the version is a key of the request."""
    context = {"states:StateMachineQualifier": (qualifier,)} if qualifier else {}
    return Row(f"{machine}:{qualifier}", f"{STARTS}:{machine}", context, {"StartExecution": {*roles}})


CALLED = [
    # Only the state machine invokes, and only versions.
    *(Row(f"{s}:7", f"{FUNCTION}:lockstep-{s}:7", {}, {"InvokeFunction": {MACHINE}}) for s in STEPS),
    *(Row(name, f"{FUNCTION}:lockstep-{name}") for name in ("audit", "watch:1", "two-audit:1")),
    # The schedules start the fleet, whose items are executions of itself, and the fleet the machine by its alias alone.
    starts("lockstep", "live", FLEET),
    *(starts("lockstep", qualifier) for qualifier in ("", "1", "gate")),
    starts("lockstep-fleet", "", "schedules", FLEET),
    starts("lockstep-two", "live"),
    Row("a token about itself", "*", ASKS, {"GetWebIdentityToken": {GENERATE}}, "federated"),
    *(
        Row(f"a token with {key} {values}", "*", {**ASKS, key: values}, NOTHING, "federated")
        for key, values in (
            ("sts:DurationSeconds", ("301",)),
            ("sts:IdentityTokenAudience", ("lockstep", "another")),
            ("lambda:SourceFunctionArn", ()),
        )
    ),
    Row("the bus", f"{BUS}/platform-events", {}, {"PutEvents": {"announce"}}, "events"),
]
ROWS = [*ITEMS, *SECRETS, *STRANGERS, *BY_ARN, *KEYS, *SIGNATURES, *OBJECTS, *CALLED]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_only_these_roles_may(row: Row) -> None:
    found, resource = with_listed_admins() if row.stack == "listed" else shape(row.stack), row.resource
    if resource.startswith("alias/"):
        is_own = resource in {a["AliasName"] for a in found.each("AWS::KMS::Alias")}
        resource = (found if is_own else shape("another stack")).key(resource)
    service = "sts" if resource == "*" else resource.split(":")[2]
    assert row.may.keys() <= {*CALLS[service].split()}
    for name in CALLS[service].split():
        on = resource.partition("/")[0] if "Bucket" in name else resource
        call = Call(action=f"{service}:{name}", resource=on, context=row.context)
        assert who_may(call, found.policies) == row.may.get(name, set()), name
        # Whoever takes the credentials out of a function may do nothing with them, but what a service asks of KMS.
        taken = replace(call, context={**row.context, "lambda:SourceFunctionArn": ()})
        if "kms:ViaService" not in row.context:
            assert not who_may(taken, found.policies) & OF_FUNCTIONS, name


def who_may(call: Call, policies: Mapping[str, list[Statement]]) -> set[str]:
    """The roles that may make a call: functions from their code. A key without a value is absent."""
    may = set()
    for role, statements in policies.items():
        code = (f"{FUNCTION}:lockstep-{role.replace('_', '-')}",) if role in OF_FUNCTIONS else ()
        there = {k: v for k, v in {"lambda:SourceFunctionArn": code, **call.context}.items() if v}
        may |= {role} if decide(replace(call, context=there), statements).allowed else set()
    return may


def test_the_rows_are_about_every_role() -> None:
    judged = {role for name in ("both", "federated", "readers", "events") for role in shape(name).policies}
    assert {role for row in ROWS for roles in row.may.values() for role in roles} == judged


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

LEASE = Lease(credential_id=ITEM, holder="run-1", fence=7)
CLAIM = Claim(kind=ClaimKind.NEW, generation=7, base_generation=6, rotation_id="run-1")
DONE = Release(
    current_generation=7,
    valid=frozenset({6, 7}),
    proven=("db-1",),
    next_due_at=EPOCH,
    not_before=EPOCH,
    rotated_at=EPOCH,
)
Operation = Callable[[DynamoDbLock], object]
SEEN = LockRecord(credential_id=ITEM, plan="of-a-plan", valid=frozenset({5}))
OPEN = LockRecord(credential_id=ITEM, plan="of-a-plan", claim=CLAIM, revoke_through=5)


def acquire(lock: DynamoDbLock, **more: Any) -> object:  # noqa: ANN401 - as of the port
    return lock.acquire(holder="run-1", now=EPOCH, expires_at=EPOCH + timedelta(minutes=9), **more)


def claim(over: LockRecord, *served: int) -> Operation:
    return lambda lock: lock.claim(LEASE, CLAIM, over=over, plan="of-a-plan", served=served)


WRITES: list[Operation] = [
    claim(SEEN, 4),
    claim(OPEN),
    lambda lock: lock.begin_promotion(LEASE, CLAIM, now=EPOCH),
    lambda lock: lock.block(LEASE, ["db-1"]),
    lambda lock: acquire(lock, force=True),
    lambda lock: acquire(lock, force=False, due_by=EPOCH),
    lambda lock: lock.release(LEASE, None),
    lambda lock: lock.release(LEASE, DONE, entry=Recorded(stream="oci", seq=3, hash="d" * 64)),
]
"""Every write of the lock. Those of AWS are made under its roles where the stack is deployed."""


class CapturedError(Exception):
    """Stands in the place of the answer."""


def request_of(operation: Operation) -> dict[str, Any]:
    """What the adapter sends."""
    keys = AwsKeys(access_key_id="AKIA", secret_access_key=SecretStr("a-secret"))
    client = aws_client("dynamodb", REGION, keys=endless(keys), endpoint="http://127.0.0.1:9")
    sent: list[dict[str, Any]] = []

    def capture(params: dict[str, Any], **_: object) -> None:
        sent.append(json.loads(params["body"]))
        raise CapturedError

    client.meta.events.register("before-call", capture)
    with pytest.raises(CapturedError):
        operation(DynamoDbLock(client, "lockstep", ITEM))
    (only,) = sent
    return only


def may_send(request: dict[str, Any]) -> set[str]:
    context = {"dynamodb:LeadingKeys": (ITEM,), **item_context("UpdateItem", request)}
    call = Call(action="dynamodb:UpdateItem", resource=TABLE, context=context)
    return who_may(call, shape("both").policies)


@pytest.mark.parametrize("operation", WRITES)
def test_the_standby_may_send_each_write_and_audit_none(operation: Operation) -> None:
    request = request_of(operation)
    assert OCI in may_send(request), request
    assert AUDITOR not in may_send(request), request


def test_the_state_machine_may_send_all_its_updates_and_the_standby_each_with_its_own_head() -> None:
    """Protocol E14."""
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
