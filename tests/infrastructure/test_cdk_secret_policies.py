"""Which secrets and keys the synthesised policies allow, by IAM's rules, of this stack and of another one."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from cdk.settings import ROOT, Settings
from lockstep.plan.file import load_plan
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from sandbox.emulators.aws.policies import Call, Statement, decide
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
from tests.infrastructure.template import synthesise

SECRETS_MANAGER, DYNAMODB = "secretsmanager.eu-central-1.amazonaws.com", "dynamodb.eu-central-1.amazonaws.com"
READ = {"DescribeSecret", "GetSecretValue"}
OWN = {SecretKind.APP_USER, SecretKind.CONNECTION_BLOB}
RUNNER_KEY, ADMIN = {SecretKind.RUNNER_KEY}, {SecretKind.ADMIN}
READER_KEY = {SecretKind.RUNNER_READER_KEY}
WRITERS, READS_ONLY = ("generate", "update_secrets"), ("apply_db", "digest")
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
    "audit": {},
    # No value but the key by which it is somebody in OCI.
    "digest": dict.fromkeys(READ, RUNNER_KEY),
    "state machine": {},
    "fleet": {},
    "schedules": {},
    "watch": {},
    "OCI runner": dict.fromkeys((*READ, "PutSecretValue", "UpdateSecretVersionStage"), OWN),
}
"""The kinds of secrets that each role may use, by the call."""
WRITES_SECRETS = {"generate", "OCI runner"}


def test_every_role_has_its_secrets_here() -> None:
    assert sorted(SECRETS) == ROLES


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
                assert not decide(changed, statements).allowed, (role, call)
    assert found == keys


def test_with_sessions_audit_may_read_no_value_and_use_no_key_of_secrets() -> None:
    """Who reads the log for a living has no password to lose (ADR 80)."""
    federated = world(THIS, plan_file=FEDERATED)
    for kind in SecretKind:
        secret = Call(
            action="secretsmanager:GetSecretValue", resource=secret_arn("any"), context=tags(THIS, kind)
        )
        assert not decide(secret, federated.policies["audit"]).allowed, kind
    used = {
        "kms:ViaService": (SECRETS_MANAGER,),
        "kms:EncryptionContext:SecretARN": (secret_arn("multi-cloud/app_user"),),
    }
    decrypt = Call(action="kms:Decrypt", resource=federated.key(f"alias/{THIS}"), context=used)
    assert decide(decrypt, federated.policies["generate"]).allowed
    assert not decide(decrypt, federated.policies["audit"]).allowed


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
    wanted |= {("Decrypt", own, "secret")} if SECRETS[role].keys() & {"GetSecretValue"} else set()
    wanted |= {("GenerateDataKey", own, "secret")} if role in WRITES_SECRETS else set()
    assert may == wanted


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
    settings = Settings.model_validate(
        {"plan": BOTH_CLOUDS, "adopt": {"existing": ["alias/lockstep-audit"], "keys": [other]}}
    )
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
        assert decide(decrypt, statements).allowed is ("GetSecretValue" in SECRETS[role]), role
        assert not decide(replace(decrypt, context={}), statements).allowed
