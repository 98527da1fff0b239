"""What the synthesised policies allow, by IAM's rules, on all of this stack and of another one in the account."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from cdk.settings import ROOT, Settings
from cdk.sizes import synthesise
from lockstep.compiled import StorageClass
from lockstep.plan_file import load_plan
from lockstep.tags import SECRET_TAG, STACK_TAG, SecretKind
from sandbox.aws.policies import Call, Context, Statement, decide
from tests.infrastructure.cdk_case import BOTH_CLOUDS, FEDERATED, READERS, title_of
from tests.infrastructure.policy_case import (
    LISTED,
    LOCK,
    MANAGED,
    OTHER,
    ROLES,
    THIS,
    allowed,
    secret_arn,
    secrets,
    tags,
    world,
)

SECRETS_MANAGER, DYNAMODB = "secretsmanager.eu-central-1.amazonaws.com", "dynamodb.eu-central-1.amazonaws.com"
READ = {"DescribeSecret", "GetSecretValue"}
OWN = {SecretKind.APP_USER, SecretKind.CONNECTION_BLOB}
RUNNER_KEY, ADMIN = {SecretKind.RUNNER_KEY}, {SecretKind.ADMIN}
READER_KEY = {SecretKind.RUNNER_READER_KEY}
WRITERS, READS_ONLY = ("generate", "update_secrets"), ("apply_db", "audit")
"""The steps that write in OCI, and those that only read there."""
SECRET_CALLS = (
    *sorted(READ),
    "PutSecretValue",
    "UpdateSecretVersionStage",
    "DeleteSecret",
    "ListSecretVersionIds",
    "PutResourcePolicy",
    "RestoreSecret",
    "TagResource",
    "UntagResource",
    "UpdateSecret",
)
SECRETS: dict[str, dict[str, set[SecretKind]]] = {
    "generate": {**dict.fromkeys(READ, OWN | RUNNER_KEY), "PutSecretValue": OWN},
    "apply_db": {call: {SecretKind.APP_USER} | ADMIN | RUNNER_KEY for call in READ},
    "update_secrets": {**dict.fromkeys(READ, OWN | RUNNER_KEY), "UpdateSecretVersionStage": OWN},
    "audit": {call: {SecretKind.APP_USER} | RUNNER_KEY for call in READ},
    "state machine": {},
    "fleet": {},
    "schedules": {},
    "watch": {"ListSecretVersionIds": RUNNER_KEY},
    "OCI runner": dict.fromkeys((*READ, "PutSecretValue", "UpdateSecretVersionStage"), OWN),
}
"""The kinds of secrets that each role may use, by the call."""
WRITES_SECRETS = {"generate", "OCI runner"}


def test_every_role_is_judged_here() -> None:
    assert sorted(world(THIS).policies) == ROLES == sorted(SECRETS)


def test_the_made_secrets_carry_both_tags() -> None:
    found = [kind for _, kind, _ in secrets(THIS)]
    assert {kind: found.count(kind) for kind in SecretKind} == {
        SecretKind.APP_USER: 2,
        SecretKind.CONNECTION_BLOB: 2,
        SecretKind.ADMIN: 2,
        SecretKind.RUNNER_KEY: 1,
        SecretKind.RUNNER_READER_KEY: 0,
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_use_the_secrets_of_its_kinds_and_no_others(role: str) -> None:
    may = {
        (call, arn)
        for call in SECRET_CALLS
        for stack in (THIS, OTHER)
        for arn, _, context in secrets(stack)
        if allowed(role, Call(action=f"secretsmanager:{call}", resource=arn, context=context))
    }
    wanted = {
        (call, arn)
        for call, kinds in SECRETS[role].items()
        for arn, kind, _ in secrets(THIS)
        if kind in kinds
    }
    assert may == wanted


@pytest.mark.parametrize(
    ("plan_file", "keys"),
    [
        (READERS, {**dict.fromkeys(WRITERS, RUNNER_KEY), **dict.fromkeys(READS_ONLY, READER_KEY)}),
        # The key that signs for the application is in KMS, and no step may read a secret with a key.
        (FEDERATED, {}),
    ],
    ids=["readers", "federated"],
)
def test_a_step_reads_its_own_key_for_oci_alone(plan_file: Path, keys: dict[str, set[SecretKind]]) -> None:
    found: dict[str, set[SecretKind]] = {}
    for role, statements in world(THIS, plan_file=plan_file).policies.items():
        for kind in (SecretKind.RUNNER_KEY, SecretKind.RUNNER_READER_KEY):
            arn = secret_arn("lockstep/oci_api_key")
            read = Call(action="secretsmanager:GetSecretValue", resource=arn, context=tags(THIS, kind))
            if decide(read, statements).allowed:
                found.setdefault(role, set()).add(kind)
            for call in sorted({*SECRET_CALLS} - READ):
                changed = replace(read, action=f"secretsmanager:{call}")
                may = decide(changed, statements).allowed
                assert not may or (role, call) == ("watch", "ListSecretVersionIds"), (role, call)
    assert found == keys


_STACK, _KIND = f"aws:ResourceTag/{STACK_TAG}", f"aws:ResourceTag/{SECRET_TAG}"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", list(SecretKind))
@pytest.mark.parametrize(
    "found",
    [
        {},
        {_STACK: (THIS,)},
        {_KIND: None},
        {_STACK: (OTHER,), _KIND: None},
        {_STACK: (THIS.upper(),), _KIND: None},
        {_STACK: (f"{THIS}*",), _KIND: None},
        {_STACK: ("",), _KIND: None},
        {_STACK: (THIS,), _KIND: ("other",)},
        {_STACK: (THIS,), _STACK.upper(): (THIS,), _KIND: None},
    ],
    ids=["none", "no kind", "no stack", "other", "case", "wildcard", "empty", "unknown kind", "ambiguous"],
)
def test_a_secret_with_other_tags_is_out_of_reach(role: str, kind: str, found: dict[str, object]) -> None:
    context = {key: value or (kind,) for key, value in found.items()}
    for call in SECRET_CALLS:
        asked = Call(
            action=f"secretsmanager:{call}",
            resource=secret_arn("multi-cloud/app_user"),
            context=context,  # type: ignore[arg-type]  # filled in above
        )
        assert not allowed(role, asked), call


@pytest.mark.parametrize("role", ROLES)
def test_a_secret_of_another_account_or_region_is_out_of_reach(role: str) -> None:
    for arn in (secret_arn("x", account="999988887777"), secret_arn("x", region="eu-west-1")):
        for kind in SecretKind:
            asked = Call(action="secretsmanager:GetSecretValue", resource=arn, context=tags(THIS, kind))
            assert not allowed(role, asked)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_use_the_items_of_credentials_and_no_others(role: str) -> None:
    tables = {stack: world(stack).arn_of("AWS::DynamoDB::Table") for stack in (THIS, OTHER)}
    (credential, *_) = world(THIS).plan.credentials
    keys = {
        "credential": (credential.id,),
        "account": ("account#orders:3306#app_user@%",),
        "both": (credential.id, "account#orders:3306#app_user@%"),
        "none": (),
    }
    calls = ("GetItem", "UpdateItem", "PutItem", "DeleteItem", "Query", "Scan", "DeleteTable", "BatchGetItem")
    may = {
        (call, stack, kind)
        for call in calls
        for stack, table in tables.items()
        for kind, values in keys.items()
        if allowed(
            role,
            Call(
                action=f"dynamodb:{call}",
                resource=table,
                context={
                    "dynamodb:Attributes": ("credential_id",),
                    **({"dynamodb:LeadingKeys": values} if values else {}),
                },
            ),
        )
    }
    # A Scan has no key, and reads every item.
    scanned = {("Scan", THIS, kind) for kind in keys} if "Scan" in LOCK[role] else set()
    assert may == {(call, THIS, "credential") for call in LOCK[role]} | scanned


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_use_the_key_for_the_secrets_and_the_table_only(role: str) -> None:
    uses = {
        "secret": {
            "kms:ViaService": (SECRETS_MANAGER,),
            "kms:EncryptionContext:SecretARN": (secret_arn("multi-cloud/app_user"),),
        },
        "foreign secret": {
            "kms:ViaService": (SECRETS_MANAGER,),
            "kms:EncryptionContext:SecretARN": (secret_arn("x", account="999988887777"),),
        },
        "no context": {"kms:ViaService": (SECRETS_MANAGER,)},
        "directly": {"kms:EncryptionContext:SecretARN": (secret_arn("multi-cloud/app_user"),)},
        "table": {
            "kms:ViaService": (DYNAMODB,),
            "kms:EncryptionContext:aws:dynamodb:tableName": ("lockstep",),
        },
        "other table": {
            "kms:ViaService": (DYNAMODB,),
            "kms:EncryptionContext:aws:dynamodb:tableName": ("lockstep-two",),
        },
        "other service": {"kms:ViaService": ("s3.eu-central-1.amazonaws.com",)},
        "none": {},
    }
    keys = {
        (stack, alias): world(stack).key(alias)
        for stack, aliases in {
            THIS: (f"alias/{THIS}", "alias/lockstep-audit"),
            OTHER: (f"alias/{OTHER}", "alias/lockstep-audit-two"),
        }.items()
        for alias in aliases
    }
    calls = ("Decrypt", "GenerateDataKey", "Encrypt", "ReEncryptFrom", "ScheduleKeyDeletion", "CreateGrant")
    may = {
        (call, key, use)
        for call in calls
        for key, arn in keys.items()
        for use, context in uses.items()
        if allowed(role, Call(action=f"kms:{call}", resource=arn, context=context))
    }
    own = (THIS, f"alias/{THIS}")
    wanted = {("Decrypt", own, "table")} if LOCK[role] else set()
    wanted |= {("Decrypt", own, "secret")} if SECRETS[role].keys() & READ else set()
    wanted |= {("GenerateDataKey", own, "secret")} if role in WRITES_SECRETS else set()
    assert may == wanted


@pytest.mark.parametrize("role", ROLES)
def test_only_the_audit_step_writes_and_signs_entries(role: str) -> None:
    buckets = {
        stack: world(stack).arn_of("AWS::S3::Bucket", BucketName=name) for stack, name in _BUCKETS.items()
    }
    context = {
        "aws:ResourceAccount": ("111122223333",),
        "s3:if-none-match": ("*",),
        "s3:x-amz-storage-class": ("GLACIER_IR",),
    }
    calls = [
        replace_context(call, context)
        for bucket in buckets.values()
        for call in (
            Call(action="s3:PutObject", resource=f"{bucket}/aws/multi-cloud.app_user/000000000001"),
            Call(action="s3:GetObject", resource=f"{bucket}/aws/multi-cloud.app_user/000000000001"),
            Call(action="s3:PutObject", resource=f"{bucket}/oci/multi-cloud.app_user/000000000001"),
            Call(action="s3:GetObject", resource=f"{bucket}/else"),
            Call(action="s3:DeleteObject", resource=f"{bucket}/aws/multi-cloud.app_user/000000000001"),
            Call(action="s3:PutBucketPolicy", resource=bucket),
            Call(
                action="s3:ListBucket", resource=bucket, context={"s3:prefix": ("aws/multi-cloud.app_user/",)}
            ),
            Call(action="s3:ListBucket", resource=bucket, context={"s3:prefix": ("",)}),
            Call(action="s3:ListBucket", resource=bucket, context={"s3:prefix": ("aws",)}),
            Call(action="s3:ListBucket", resource=bucket),
        )
    ]
    entry = f"{buckets[THIS]}/aws/multi-cloud.app_user/000000000001"
    put, look = (
        [("s3:PutObject", entry)],
        [("s3:GetObject", entry), ("s3:ListBucket", buckets[THIS])],
    )
    may = [(call.action, call.resource) for call in calls if allowed(role, call)]
    # The standby witnesses the log.
    assert may == {"audit": [*put, *look], "OCI runner": look}.get(role, [])
    mac = {"kms:MacAlgorithm": ("HMAC_SHA_256",)}
    keys = {
        THIS: world(THIS).key("alias/lockstep-audit"),
        OTHER: world(OTHER).key("alias/lockstep-audit-two"),
    }
    signs = {
        (call, stack)
        for call in ("GenerateMac", "VerifyMac")
        for stack, key in keys.items()
        if allowed(role, Call(action=f"kms:{call}", resource=key, context=mac))
    }
    assert signs == ({("GenerateMac", THIS), ("VerifyMac", THIS)} if role == "audit" else set())


def test_admins_that_are_known_by_arn_are_reachable_for_the_function_of_the_databases_alone() -> None:
    readable = {
        LISTED: True,
        secret_arn(MANAGED): True,
        LISTED.replace("orders", "other"): False,
        LISTED.replace("444455556666", "111122223333"): False,
        secret_arn(MANAGED, region="eu-west-1"): False,
        secret_arn("rds!cluster-other"): False,
    }
    policies = world(THIS, listed=True).policies
    by_tag = Call(
        action="secretsmanager:GetSecretValue",
        resource=secret_arn("lockstep/admin/orders"),
        context=tags(THIS, SecretKind.ADMIN),
    )
    # No admin's secret of this plan is known by its tag.
    assert not any(decide(by_tag, statements).allowed for statements in policies.values())
    for role, statements in policies.items():
        for arn, may in readable.items():
            read = Call(action="secretsmanager:GetSecretValue", resource=arn)
            assert decide(read, statements).allowed is (may and role == "apply_db"), (role, arn)
            write = replace(read, action="secretsmanager:PutSecretValue")
            assert not decide(write, statements).allowed
    key = world(THIS, listed=True).key(f"alias/{THIS}")
    decrypt = Call(
        action="kms:Decrypt",
        resource=key,
        context={
            "kms:ViaService": ("secretsmanager.eu-west-1.amazonaws.com",),
            "kms:EncryptionContext:SecretARN": (LISTED,),
        },
    )
    assert [role for role, found in policies.items() if decide(decrypt, found).allowed] == ["apply_db"]
    assert not allowed("apply_db", decrypt)


def test_adopted_keys_are_reachable_for_the_same_uses_and_the_mac_key_by_its_alias_alone() -> None:
    other = "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-0000-0000-000000000000"
    settings = Settings.model_validate({"plan": BOTH_CLOUDS, "adopt": {"mac_key": True, "keys": [other]}})
    with tempfile.TemporaryDirectory(prefix="lockstep-policies-") as folder:
        template = synthesise(load_plan(ROOT / BOTH_CLOUDS), settings, Path(folder))
    policies: dict[str, list[Statement]] = {}
    for name, statements in template.role_policies():
        policies.setdefault(title_of(name), []).extend(statements)
    mac = {"kms:MacAlgorithm": ("HMAC_SHA_256",)}
    for role, statements in policies.items():
        for aliases, may in {
            ("alias/lockstep-audit",): role == "audit",
            ("alias/a", "alias/lockstep-audit"): role == "audit",
            ("alias/lockstep-audit-two",): False,
            (): False,
        }.items():
            context = {**mac, "kms:ResourceAliases": aliases} if aliases else mac
            sign = Call(action="kms:GenerateMac", resource=other, context=context)
            assert decide(sign, statements).allowed is may, (role, aliases)
        decrypt = Call(
            action="kms:Decrypt",
            resource=other,
            context={
                "kms:ViaService": (SECRETS_MANAGER,),
                "kms:EncryptionContext:SecretARN": (secret_arn("multi-cloud/app_user"),),
            },
        )
        assert decide(decrypt, statements).allowed is bool(SECRETS[role].keys() & READ), role
        assert not decide(replace(decrypt, context={}), statements).allowed


def test_an_entry_cannot_be_overwritten_or_moved_to_another_account_or_class() -> None:
    bucket = world(THIS).arn_of("AWS::S3::Bucket", BucketName=_BUCKETS[THIS])
    entry = Call(
        action="s3:PutObject",
        resource=f"{bucket}/aws/multi-cloud.app_user/000000000001",
        context={
            "aws:ResourceAccount": ("111122223333",),
            "s3:if-none-match": ("*",),
            "s3:x-amz-storage-class": ("GLACIER_IR",),
        },
    )
    # Where a plan names another class, the runs that began under the one before still end.
    for kind in get_args(StorageClass):
        assert allowed("audit", replace(entry, context={**entry.context, "s3:x-amz-storage-class": (kind,)}))
    for key, value in {
        "s3:if-none-match": None,
        "aws:ResourceAccount": ("999988887777",),
        "s3:x-amz-storage-class": ("DEEP_ARCHIVE",),
    }.items():
        context = {k: v for k, v in entry.context.items() if k != key} | ({key: value} if value else {})
        assert not allowed("audit", replace(entry, context=context)), key


@pytest.mark.parametrize("role", ROLES)
def test_only_the_state_machine_invokes_and_only_versions(role: str) -> None:
    may = {
        (stack, world(stack).template.name(name).removeprefix(f"{stack}-"), qualifier)
        for stack in (THIS, OTHER)
        for name in world(stack).template.of_type("AWS::Lambda::Function")
        for qualifier in ("", ":1", ":207")
        if allowed(
            role,
            Call(action="lambda:InvokeFunction", resource=world(stack).template.arn(name) + qualifier),
        )
    }
    steps = ("generate", "apply-db", "update-secrets", "audit")
    versions = {(THIS, step, qualifier) for step in steps for qualifier in (":1", ":207")}
    assert may == (versions if role == "state machine" else set())


@pytest.mark.parametrize("role", ROLES)
def test_the_schedules_start_the_fleet_and_the_fleet_the_machine_by_its_alias_alone(role: str) -> None:
    """Step Functions asks IAM for the machine; the alias or the version is a key of the request."""
    may = {
        (stack, machine, qualifier)
        for stack in (THIS, OTHER)
        for machine in ("", "-fleet")
        for qualifier in ("", "1", "canary", "gate", "live")
        if allowed(
            role,
            Call(
                action="states:StartExecution",
                resource=world(stack).arn_of(
                    "AWS::StepFunctions::StateMachine", StateMachineName=f"{stack}{machine}"
                ),
                context={"states:StateMachineQualifier": (qualifier,)} if qualifier else {},
            ),
        )
    }
    # The fleet has no version and no alias; its items are executions of itself.
    own = {(THIS, "-fleet", qualifier) for qualifier in ("", "1", "canary", "gate", "live")}
    assert may == {"schedules": own, "fleet": {(THIS, "", "live")} | own}.get(role, set())


@pytest.mark.parametrize("role", ROLES)
def test_functions_read_published_plans_and_only_the_fleet_writes_beside_them(role: str) -> None:
    account = {"aws:ResourceAccount": ("111122223333",)}
    folder = f"plans/{'d1' * 32}"
    objects = {
        "credential": f"{folder}/credentials/0123456789abcdef.json",
        "index": f"{folder}/index.json",
        "shard": f"{folder}/shards/20m-00.json",
        "report": "reports/20m-00/1/SUCCEEDED_0.json",
        "else": "else",
    }
    calls = (
        "GetObject",
        "PutObject",
        "DeleteObject",
        "DeleteObjectVersion",
        "PutObjectAcl",
        "GetObjectVersion",
    )
    may = {
        (stack, call, kind)
        for stack in (THIS, OTHER)
        for call in calls
        for kind, key in objects.items()
        if allowed(
            role,
            Call(
                action=f"s3:{call}",
                resource=f"{world(stack).arn_of('AWS::S3::Bucket', BucketName=f'{_BUCKETS[stack]}-plans')}/{key}",
                context={**account, "s3:if-none-match": ("*",)},
            ),
        )
    }
    reads = {(THIS, "GetObject", kind) for kind in ("credential", "index", "shard")}
    fleet = {(THIS, "GetObject", "shard"), (THIS, "GetObject", "report"), (THIS, "PutObject", "report")}
    assert may == (fleet if role == "fleet" else reads if role in _FUNCTIONS else set())


@pytest.mark.parametrize("role", ROLES)
def test_a_role_writes_its_own_log_only(role: str) -> None:
    may = [
        world(stack).template.name(name)
        for stack in (THIS, OTHER)
        for name in world(stack).template.of_type("AWS::Logs::LogGroup")
        if allowed(role, Call(action="logs:PutLogEvents", resource=world(stack).template.arn(name)))
    ]
    assert may == (["/aws/lambda/lockstep-" + role.replace("_", "-")] if role in _FUNCTIONS else [])


def test_every_rule_and_nothing_else_may_write_to_the_dead_letter_queue() -> None:
    found = world(THIS)
    (policy,) = found.template.of_type("AWS::SQS::QueuePolicy").values()
    queue = found.arn_of("AWS::SQS::Queue")
    statements = [
        s
        for s in found.template.resolved(policy["Properties"]["PolicyDocument"]["Statement"])
        if s["Effect"] == "Allow" and s["Principal"] == {"Service": "events.amazonaws.com"}
    ]
    rule = "arn:aws:events:eu-central-1:111122223333:rule/"
    sources = {
        **{
            found.template.arn(name): "DeadLetterConfig" in resource["Properties"]["Targets"][0]
            for name, resource in found.template.of_type("AWS::Events::Rule").items()
        },
        f"{rule}elsewhere": False,
        f"{rule}lockstep": False,
        "arn:aws:events:eu-central-1:999988887777:rule/lockstep-x": False,
        "arn:aws:events:eu-west-1:111122223333:rule/lockstep-x": False,
    }
    for source, may in sources.items():
        call = Call(action="sqs:SendMessage", resource=queue, context={"aws:SourceArn": (source,)})
        assert decide(call, statements).allowed is may, source
    assert not decide(Call(action="sqs:SendMessage", resource=queue), statements).allowed


_BUCKETS = {THIS: "example-lockstep-audit", OTHER: "example-lockstep-audit-two"}
_FUNCTIONS = ("generate", "apply_db", "update_secrets", "audit", "watch")


def replace_context(call: Call, context: Context) -> Call:
    """The call with more keys."""
    return replace(call, context={**context, **call.context})
