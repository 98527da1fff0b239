"""What the synthesised policies allow, by IAM's rules, apart from secrets and keys: `test_cdk_secret_policies`."""

from dataclasses import replace

import pytest

from sandbox.emulators.aws.policies import Call, Context, decide
from tests.infrastructure.policy_case import LOCK, OTHER, ROLES, THIS, allowed, world


def test_every_role_is_judged_here() -> None:
    assert sorted(world(THIS).policies) == ROLES


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


READS = {"audit": {"aws/"}, "digest": {"aws/", "digests/"}, "OCI runner": {"digests/"}}
WRITES = {"audit": {"aws/"}, "digest": {"digests/"}}
"""The folders of the audit bucket that a role lists and reads, and those that it writes."""
RUNS, ORDERS, DIGESTS = "alias/lockstep-audit", "alias/lockstep-orders", "alias/lockstep-digests"
SIGNS = {
    "audit": {("GenerateMac", RUNS), ("VerifyMac", RUNS), ("VerifyMac", ORDERS)},
    "digest": {
        ("VerifyMac", RUNS),
        ("VerifyMac", ORDERS),
        ("Sign", DIGESTS),
        ("GetPublicKey", DIGESTS),
    },
}
"""What a role may do with the keys that sign. An order is recognised, and signed by people alone."""


@pytest.mark.parametrize("role", ROLES)
def test_one_role_writes_entries_and_another_one_digests(role: str) -> None:
    context = {"aws:ResourceAccount": ("111122223333",), "s3:if-none-match": ("*",)}
    may = {
        (call, stack, prefix)
        for stack, name in _BUCKETS.items()
        for call in ("PutObject", "GetObject", "DeleteObject", "ListBucket", "PutBucketPolicy")
        for prefix in ("", "aws", "aws/", "aws/a.b/", "digests/", "oci/", "else")
        for bucket in (world(stack).arn_of("AWS::S3::Bucket", BucketName=name),)
        if allowed(
            role,
            Call(
                action=f"s3:{call}",
                resource=f"{bucket}/{prefix}1" if call.endswith("Object") else bucket,
                context={**context, "s3:prefix": (prefix,), "s3:x-amz-storage-class": ("STANDARD",)},
            ),
        )
    }
    beside = {"aws/": "aws/a.b/"}
    read, written = (
        {*found, *(beside[f] for f in found if f in beside)}
        for found in (READS.get(role, set()), WRITES.get(role, set()))
    )
    assert may == {
        *((call, THIS, prefix) for call in ("GetObject", "ListBucket") for prefix in read),
        *(("PutObject", THIS, prefix) for prefix in written),
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_role_uses_the_keys_that_sign_for_its_own_purpose(role: str) -> None:
    context = {
        "kms:MacAlgorithm": ("HMAC_SHA_256",),
        "kms:MessageType": ("DIGEST",),
        "kms:SigningAlgorithm": ("RSASSA_PKCS1_V1_5_SHA_256",),
    }
    keys = {(THIS, alias): alias for alias in (RUNS, ORDERS, DIGESTS)} | {
        (OTHER, f"{alias}-two"): f"{alias}-two" for alias in (RUNS, ORDERS)
    }
    keys[OTHER, "alias/lockstep-two-digests"] = "alias/lockstep-two-digests"
    may = {
        (call, alias)
        for call in ("GenerateMac", "VerifyMac", "Sign", "Verify", "GetPublicKey", "Decrypt")
        for stack, alias in keys
        if allowed(role, Call(action=f"kms:{call}", resource=world(stack).key(alias), context=context))
    }
    assert may == SIGNS.get(role, set())


@pytest.mark.parametrize(
    "other",
    [{"kms:MessageType": ("RAW",)}, {"kms:SigningAlgorithm": ("RSASSA_PSS_SHA_256",)}],
    ids=["text", "another algorithm"],
)
def test_a_digest_is_signed_in_one_way(other: Context) -> None:
    context = {
        "kms:MessageType": ("DIGEST",),
        "kms:SigningAlgorithm": ("RSASSA_PKCS1_V1_5_SHA_256",),
        **other,
    }
    key = world(THIS).key(DIGESTS)
    assert not allowed("digest", Call(action="kms:Sign", resource=key, context=context))


def test_what_is_written_cannot_be_overwritten_or_moved_to_another_account_or_class() -> None:
    bucket = world(THIS).arn_of("AWS::S3::Bucket", BucketName=_BUCKETS[THIS])
    entry = Call(
        action="s3:PutObject",
        resource=f"{bucket}/aws/multi-cloud.app_user/000000000001",
        context={
            "aws:ResourceAccount": ("111122223333",),
            "s3:if-none-match": ("*",),
            "s3:x-amz-storage-class": ("STANDARD",),
        },
    )
    assert allowed("audit", entry)
    digest = replace(
        entry,
        resource=f"{bucket}/digests/2026-11-29T19.json",
        context={k: v for k, v in entry.context.items() if k != "s3:x-amz-storage-class"},
    )
    assert allowed("digest", digest)
    for role, written in {"audit": entry, "digest": digest}.items():
        for key, value in {
            "s3:if-none-match": None,
            "aws:ResourceAccount": ("999988887777",),
            "s3:x-amz-storage-class": ("DEEP_ARCHIVE",),
        }.items():
            context = {k: v for k, v in written.context.items() if k != key} | ({key: value} if value else {})
            assert not allowed(role, replace(written, context=context)), (role, key)


@pytest.mark.parametrize("role", ROLES)
def test_only_the_state_machine_invokes_and_only_versions(role: str) -> None:
    may = {
        (stack, world(stack).template.name(name).removeprefix(f"{stack}-"), qualifier)
        for stack in (THIS, OTHER)
        for name in world(stack).template.of_type("AWS::Lambda::Function")
        for qualifier in ("", ":1", ":207")
        if allowed(
            role, Call(action="lambda:InvokeFunction", resource=world(stack).template.arn(name) + qualifier)
        )
    }
    steps = ("generate", "apply-db", "update-secrets", "audit")
    versions = {(THIS, step, qualifier) for step in steps for qualifier in (":1", ":207")}
    assert may == (versions if role == "state machine" else set())


def test_the_right_to_diagnose_invokes_no_step() -> None:
    right = {"Effect": "Allow", "Action": "*", "Resource": f"arn:aws:lambda:*:function:{THIS}-*:doctor"}
    template = world(THIS).template
    for name in template.of_type("AWS::Lambda::Function"):
        for qualifier in ("", ":1", ":$LATEST", ":doctors", ":doctor"):
            call = Call(action="lambda:InvokeFunction", resource=template.arn(name) + qualifier)
            assert decide(call, [right]).allowed == (qualifier == ":doctor")


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
_FUNCTIONS = ("generate", "apply_db", "update_secrets", "audit", "watch", "digest")
