"""`python -m cdk.deploy`: its settings, what it refuses, says, and hands to the CDK CLI. And the way back.

What an account says of the names of a deployment: made, adopted, taken back, or refused with what to change.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto.cloudformation.models import cloudformation_backends

from cdk import app as cdk_app
from cdk import rollback
from cdk.account import Account, UnansweredError
from cdk.deploy import arguments, create_secrets, main, settings_of
from cdk.deployment import NotPublishedError, Publication, read_deployment
from cdk.existing import Estate, look
from cdk.settings import ROOT, Adopt, NotDeployableError, Settings
from lockstep.plan.file import load_plan
from lockstep.plan.runners import Runners
from lockstep.protocol.names import KEY_OUTPUT
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from tests.infrastructure import cdk_case as case
from tests.infrastructure.cdk_case import AUDIT, FEDERATED, PLAN, PLANS, VPC, hollow_bundle, refusing, shape
from tests.support.aws import package
from tests.support.scaled import with_sections

BUCKET = "audit-of-orders"
TOPIC = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "t"}}
Said = pytest.CaptureFixture[str]


# ---- settings


def test_cdk_json_holds_every_setting_with_its_default() -> None:
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    own = {name: value for name, value in context.items() if not name.startswith("@")}
    assert own == Settings().model_dump(mode="json")


ROLE = "arn:aws:iam::111122223333:role"
NO_PRINCIPALS = (
    *("*", "break-glass", f"{ROLE}/*", "arn:aws:iam::*:role/x", "arn:aws:iam::111122223333:root"),
    "arn:aws:sts::111122223333:assumed-role/break-glass/me",
)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("adopt", {"lock_tabel": True}, "adopt.lock_tabel: Extra inputs are not permitted"),
        ("adopt", {"topics": {"page": case.ADOPTED_KEY}}, "adopt.topics.page: String should match"),
        ("adopt", "{", "adopt: Expecting property name"),
        ("tags", {"aws:team": "x"}, "keys that begin with aws: belong to AWS"),
        ("tags", {"Lockstep:stack": "x"}, "keys that begin with lockstep: belong to Lockstep"),
        ("tags", {str(n): "" for n in range(49)}, "49 tags, and a resource takes 50"),
        ("permissions_boundary", f"{ROLE}/x", "permissions_boundary: String should"),
        ("vpc", {**VPC, "database_cidrs": []}, "vpc: give database_cidrs"),
        ("vpc", {**VPC, "security_group_ids": ["sg-01234567"]}, "one of the two"),
        *(("audit_break_glass_role", wrong, "audit_break_glass_role") for wrong in NO_PRINCIPALS),
        ("operators", ["*"], "operators"),
    ],
)
def test_every_wrong_setting_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(NotDeployableError) as refused:
        Settings.from_context({name: value, "memory_mb": 1}.get)
    told = str(refused.value).splitlines()
    assert [line for line in told if line.startswith(f"cdk.json: {name}") and message in line]
    assert [line for line in told if line.startswith("cdk.json: memory_mb: ")]


def test_a_wrong_setting_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    no_setting = "cdk.json: deletion_protecton: there is no such setting; it is called deletion_protection"
    for given, text, message in (
        ("deletion_protecton=false", "", no_setting),
        ("stack=lockstep", '{"context": {"stack": "a",}}', "cdk.json: it is not valid JSON: "),
        ("stack=lockstep", '{"app": "x"}', "cdk.json: it has no settings"),
    ):
        if text:
            (tmp_path / "cdk.json").write_text(text)
            monkeypatch.setattr("cdk.deploy.ROOT", tmp_path)
        assert main(["--dry-run", "-c", given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(message)


def test_settings_come_from_cdk_json_and_the_command_line_and_go_to_the_cli_with_the_complete_adopt() -> None:
    given = ["memory_mb=1024", 'tags={"a": "b=c"}', "alarm_email=", "packaging=zip", f"vpc={json.dumps(VPC)}"]
    wanted = {"memory_mb": 1024, "tags": {"a": "b=c"}, "alarm_email": None, "packaging": "zip", "vpc": VPC}
    assert settings_of(given) == Settings.model_validate(wanted)
    with pytest.raises(NotDeployableError, match="give name=value"):
        settings_of(["memory_mb"])
    estate = Estate(adopt=Adopt(existing=("a",)))
    told = arguments(estate, ["--require-approval", "never"], ["plan=p.yaml", 'adopt={"existing": []}'])
    assert (told[:3], told[-2:]) == (["deploy", "--context", "plan=p.yaml"], ["--require-approval", "never"])
    (adopt,) = (part for part in told if part.startswith("adopt="))
    assert settings_of([adopt]).adopt == estate.adopt


HOUR, REGION_OF = "interval: 1h", "{table: lockstep, region: "
TWO_DAYS, SAME, KEY = "interval: 2d", "version: 1", "alias/lockstep-audit"


@pytest.mark.parametrize(
    ("file", "was", "becomes", "settings", "message"),
    [
        (PLAN, HOUR, "interval: 4d", {}, "half a week"),
        (PLAN, "retention: 400d", "retention: 36h", {}, "whole days"),
        (PLAN, f"{REGION_OF}eu-central-1", f"{REGION_OF}eu-west-1", {}, "one region"),
        (PLAN, KEY, "alias/lockstep", {}, "the alias of the key that encrypts"),
        (PLAN, KEY, "alias/lockstep-digests", {}, "the alias of the key that signs digests"),
        (FEDERATED, "alias/lockstep-oci-client", "alias/lockstep", {}, "another key's"),
        # A canary that is not there, or for which no deployment can wait.
        (PLAN, HOUR, TWO_DAYS, {"canary": case.CANARY}, ""),
        (PLAN, HOUR, "interval: 1d", {"canary": case.NO_CANARY}, ""),
        (PLAN, HOUR, TWO_DAYS, {"canary": "somebody"}, "canary: the plan has no credential somebody"),
        (PLAN, HOUR, TWO_DAYS, {"canary": case.NO_CANARY}, "a deployment cannot wait"),
        # The role of another stack.
        (FEDERATED, SAME, SAME, {"stack": "two"}, f"name {ROLE}/two-oci-runner, or"),
        (FEDERATED, SAME, SAME, {"stack": "two", "adopt": {"existing": ["lockstep-oci-runner"]}}, ""),
        (case.BOTH_CLOUDS, SAME, SAME, {"stack": "two"}, ""),
    ],
)
def test_what_aws_cannot_run_is_refused(
    tmp_path: Path, file: Path, was: str, becomes: str, settings: Mapping[str, Any], message: str
) -> None:
    plan, text = tmp_path / "lockstep.yaml", (ROOT / file).read_text()
    assert was in text
    plan.write_text(text.replace(was, becomes))
    given = Settings.model_validate({"plan": plan, **settings})
    with pytest.raises(NotDeployableError, match=message) if message else nullcontext():
        read_deployment(given)


def test_an_address_needs_a_topic_to_subscribe_to() -> None:
    with pytest.raises(NotDeployableError, match="alarm_email: both topics are adopted"):
        case.synthesise(
            load_plan(ROOT / PLAN), adopt={"topics": dict(case.TOPICS)}, alarm_email="a@example.com"
        )


# ---- the command


@pytest.fixture(name="plan")
def _plan(tmp_path: Path) -> Path:
    """A plan without values of the example."""
    file = tmp_path / "lockstep.yaml"
    text = (ROOT / PLAN).read_text().replace("example-lockstep-audit", BUCKET)
    file.write_text(text.replace("ca_file: ca/example.pem, ", ""))
    return file


@pytest.fixture(name="aws")
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        yield aws


def make_stack(aws: AwsSandbox, resource: Mapping[str, Any], **outputs: str) -> Any:  # noqa: ANN401 - of moto
    """A stack with one resource, as the account knows it."""
    told = {name: {"Value": value} for name, value in outputs.items()}
    template = json.dumps({"Resources": {"Resource": resource}, "Outputs": told})
    aws.client("cloudformation").create_stack(StackName="lockstep", TemplateBody=template)
    (stack,) = cloudformation_backends[aws.account_id][aws.region].stacks.values()
    return stack


def test_a_dry_run_says_what_would_be_adopted_and_deploys_nothing(
    aws: AwsSandbox, plan: Path, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As zips: an image is built from plans in the repository only.
    bundle, other = tmp_path / "bundle", tmp_path / "other.yaml"
    zipped = ["-c", f"plan={plan}", "-c", "packaging=zip", "-c", f"bundle={bundle}"]
    asked = ["--dry-run", *zipped]
    assert main(asked) == 2
    assert capsys.readouterr().err == f"there is no bundle in {bundle}; run `make build`\n"
    # The functions of one with other CA files would not find those that the published plan names.
    (tmp_path / "ca.pem").write_text("another authority")
    other.write_text(plan.read_text().replace("admin_secret:", "ca_file: ca.pem, admin_secret:"))
    hollow_bundle(bundle, other)
    assert main(asked) == 2
    assert f"that {plan} needs; run `make build PLAN={plan}`\n" in capsys.readouterr().err
    hollow_bundle(bundle, plan)
    # The plan itself is not in it: another one with the same CA files is deployed without a new bundle.
    plan.write_text(plan.read_text() + "# changed\n")
    create_lock_table(aws.client("dynamodb"), "lockstep")
    with refusing("HeadBucket", code="403"):
        assert main(asked) == 2
    told = capsys.readouterr().err
    assert f"bucket {BUCKET}-plans: whether it exists is not known: it belongs to another account" in told
    assert 'to adopt it, add "lockstep" to adopt.existing' in told
    adopting = ["-c", 'adopt={"existing": ["lockstep"]}']
    assert main([*asked, *adopting]) == 0
    said = capsys.readouterr().out
    assert "adopted: table lockstep: cdk.json says so" in said
    (adopt,) = (line.removeprefix("adopt: ") for line in said.splitlines() if line.startswith("adopt: "))
    assert Adopt.model_validate_json(adopt) == Adopt(existing=("lockstep",))
    assert f"after the deployment the plan would be published: s3://{BUCKET}-plans/plans/" in said
    monkeypatch.setattr("cdk.deploy._CLI", Path("/not-there"))
    monkeypatch.setattr("cdk.deploy.examine", lambda *_: Estate(adopt=Adopt()))
    assert main(zipped) == 2
    assert capsys.readouterr().err == "the CDK CLI is not installed; `make deploy-cdk` installs it\n"
    assert aws.client("cloudformation").list_stacks()["StackSummaries"] == []


def test_the_secrets_that_credentials_lack_are_made_with_the_key_and_the_tags_of_the_stack(
    aws: AwsSandbox, plan: Path, capsys: Said
) -> None:
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    make_stack(aws, TOPIC, **{KEY_OUTPUT: key})
    deployment = read_deployment(Settings(plan=plan, tags={"team": "data"}))
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="multi-cloud/app_user", SecretString="in use")
    assert not create_secrets(deployment, lambda service, _: aws.client(service))
    assert "multi-cloud/app_user: it exists, and people made it" in " ".join(capsys.readouterr().err.split())
    made = secrets.describe_secret(SecretId="multi-cloud/app_user.connection")
    assert made["KmsKeyId"] == key
    assert {"Key": "team", "Value": "data"} in made["Tags"]
    secrets.delete_secret(SecretId="multi-cloud/app_user", ForceDeleteWithoutRecovery=True)
    assert create_secrets(deployment, lambda service, _: aws.client(service))
    with refusing("DescribeSecret"):
        assert not create_secrets(deployment, lambda service, _: aws.client(service))
    assert "repeat `lockstep secrets create --cloud aws" in capsys.readouterr().err


def test_what_others_wrote_where_the_plan_is_published_stops_it(aws: AwsSandbox, plan: Path) -> None:
    s3, name = aws.client("s3"), f"{BUCKET}-plans"
    publication = Publication(read_deployment(Settings(plan=plan)), s3)
    with pytest.raises(NotPublishedError, match="PlanAccessDeniedError"):
        publication.publish()
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.region})
    # Two credentials, two shards, the index.
    assert "0 documents were there, 5 written" in publication.publish()
    folder = publication.address.partition(f"{name}/")[2].partition("?")[0]
    s3.put_object(Bucket=name, Key=f"{folder}/shards/20m-00.json", Body=b"[]")
    with pytest.raises(NotPublishedError, match="1 documents have other content"):
        publication.publish()


def test_values_of_the_example_and_nobody_to_sign_in_as_stop_it(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    placeholder = "audit.aws.bucket: example-lockstep-audit is a placeholder; replace it with your value"
    assert main(["--dry-run"]) == 2
    assert placeholder in capsys.readouterr().err
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({"plan": "lockstep.yaml"}))
    assert cdk_app.main() == 2
    assert placeholder in capsys.readouterr().err
    assert main(["--dry-run", "-c", f"plan={plan}", "--profile", "not-there"]) == 2
    assert "not-there" in capsys.readouterr().err
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: None)
    assert main(["--dry-run", "-c", f"plan={plan}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "sign in, for example by `aws sso login`" in line


# ---- `make rollback-aws` moves the aliases that rules start, to versions that can run

ALIASES = ("live", "canary", "gate")


def calling(arn: str, number: int) -> str:
    """The definition of a machine that calls a function."""
    state = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    states = {"Call": {**state, "Comment": str(number), "Arguments": {"FunctionName": arn}}}
    return json.dumps({"QueryLanguage": "JSONata", "StartAt": "Call", "States": states})


@pytest.fixture(name="machine")
def _machine(aws: AwsSandbox) -> str:
    """One with three versions, of which the first calls what was deleted."""
    created = aws.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument="{}")
    role = {"roleArn": created["Role"]["Arn"]}
    made = {
        "Runtime": "python3.12",
        "Handler": "code.handler",
        "Code": {"ZipFile": package("")},
        "Publish": True,
    }
    aws.client("lambda").create_function(FunctionName="lockstep-audit", Role=role["roleArn"], **made)
    states, functions = aws.client("stepfunctions"), f"arn:aws:lambda:{aws.region}:{aws.account_id}:function"
    machine: str = states.create_state_machine(name="lockstep", definition=calling("", 0), **role)[
        "stateMachineArn"
    ]
    version = ""
    for number, name in enumerate(("gone", "audit", "audit"), 1):
        definition = calling(f"{functions}:lockstep-{name}:1", number)
        states.update_state_machine(stateMachineArn=machine, definition=definition)
        version = states.publish_state_machine_version(stateMachineArn=machine)["stateMachineVersionArn"]
    for alias in ALIASES:
        routes = [{"stateMachineVersionArn": version, "weight": 100}]
        states.create_state_machine_alias(name=alias, routingConfiguration=routes)
    return machine


def test_one_command_leads_back_and_forth_to_versions_that_can_run(
    aws: AwsSandbox, machine: str, capsys: Said
) -> None:
    stack = make_stack(aws, TOPIC, StateMachineArn=f"{machine}:live")

    def roll_back(*more: str) -> tuple[int, str]:
        ended = rollback.main(["-c", "stack=lockstep", "-c", f"plan={PLAN}", *more])
        said = capsys.readouterr()
        return ended, said.out + said.err

    def versions() -> list[str]:
        """Those that the aliases lead to."""
        describe = aws.client("stepfunctions").describe_state_machine_alias
        found = [describe(stateMachineAliasArn=f"{machine}:{alias}") for alias in ALIASES]
        return [one["routingConfiguration"][0]["stateMachineVersionArn"].rpartition(":")[2] for one in found]

    ended, said = roll_back("--dry-run")
    assert (ended, "lockstep: live would be moved from version 3 to 2" in said) == (0, True)
    assert versions() == ["3", "3", "3"]
    ended, said = roll_back()
    assert (ended, "lockstep: canary moved from version 3 to 2" in said) == (0, True)
    # Nothing starts by the gate.
    assert versions() == ["2", "2", "3"]
    assert roll_back("--to", "3")[0] == 0
    assert versions() == ["3", "3", "3"]
    for words, status, why in (
        (["--to", "1"], "UPDATE_COMPLETE", "version 1 calls what was deleted"),
        (["--to", "77"], "UPDATE_COMPLETE", "there is no version 77"),
        # A deployment under way moves them itself.
        ([], "UPDATE_IN_PROGRESS", "cancel-update-stack"),
    ):
        stack.status = status
        ended, said = roll_back(*words)
        assert (ended, why in said) == (2, True), said
    assert versions() == ["3", "3", "3"]


# ---- what an account has

ISSUER = "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/example/b/lockstep-issuer/o"
SIGNING = {
    "alias/lockstep-audit": ("HMAC_256", "GENERATE_VERIFY_MAC"),
    "alias/lockstep-orders": ("HMAC_256", "GENERATE_VERIFY_MAC"),
    "alias/lockstep-digests": ("RSA_2048", "SIGN_VERIFY"),
}
OWN, OTHERS = {"lockstep:stack": "lockstep"}, {"lockstep:stack": "lockstep-two"}
ELSEWHERE = "arn:aws:kms:eu-central-1:999988887777:key/0a1b2c3d-0000-0000-0000-000000000000"
EVERYTHING = tuple(sorted(["lockstep", AUDIT, PLANS, *SIGNING, *case.LOGS]))
TABLE: Mapping[str, Any] = {
    "TableName": "lockstep",
    "AttributeDefinitions": [{"AttributeName": "credential_id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "credential_id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}


def looked_at(aws: AwsSandbox, role_arn: str = "", **settings: object) -> Estate:
    """What is said of a plan; with the ARN of a role, of the one with sessions, which names it."""
    plan = FEDERATED if role_arn else PLAN
    deployment = read_deployment(Settings.model_validate({"plan": plan, **settings}))
    if role_arn:
        runners = deployment.plan.runners.model_dump(mode="json", exclude_none=True)
        runners["oci"]["federation"]["role_arn"] = role_arn
        changed = with_sections(deployment.plan, runners=Runners.model_validate(runners))
        deployment = replace(deployment, plan=changed)
    account = Account(aws.client, aws.region)
    made = shape("federated" if role_arn else "plain").all
    return look(deployment, made, account, account.stack("lockstep"))


def listed(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    return [{key: name, value: text} for name, text in tags.items()]


def make_key(aws: AwsSandbox, alias: str = "", tags: Mapping[str, str] = OWN) -> str:
    kms, (spec, usage) = aws.client("kms"), SIGNING.get(alias, ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"))
    key = kms.create_key(Tags=listed(tags, "TagKey", "TagValue"), KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
    if alias:
        kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    return str(key["Arn"])


def make_bucket(aws: AwsSandbox, name: str, tags: Mapping[str, str] = OWN) -> None:
    """With a lock for entries, without a rule."""
    s3, where = aws.client("s3"), {"LocationConstraint": aws.region}
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True, CreateBucketConfiguration=where)
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": listed(tags)})


def lock_entries(aws: AwsSandbox, **retention: object) -> None:
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
    aws.client("s3").put_object_lock_configuration(Bucket=AUDIT, ObjectLockConfiguration=lock)


def make_everything(aws: AwsSandbox, tags: Mapping[str, str]) -> str:
    """Everything that outlives a stack; the ARN of the encryption key."""
    for alias in SIGNING:
        make_key(aws, alias, tags)
    aws.client("dynamodb").create_table(**TABLE, Tags=listed(tags))
    for bucket in (AUDIT, PLANS):
        make_bucket(aws, bucket, tags)
    lock_entries(aws, Mode="COMPLIANCE", Days=400)
    for name in case.LOGS:
        aws.client("logs").create_log_group(logGroupName=name, tags=dict(tags))
    return make_key(aws, "alias/lockstep", tags)


def test_what_is_missing_is_made_and_what_a_stack_left_is_taken_back(aws: AwsSandbox) -> None:
    assert looked_at(aws) == Estate(adopt=Adopt())
    key = make_everything(aws, OWN)
    estate = looked_at(aws)
    assert (estate.problems, estate.adopt) == ([], Adopt(existing=EVERYTHING, encryption_key=key))
    assert "table lockstep: this stack made it" in estate.taken


@pytest.mark.parametrize("tags", [{}, OTHERS], ids=["of nobody", "of another stack"])
def test_what_is_of_others_is_refused_with_its_adoption(aws: AwsSandbox, tags: Mapping[str, str]) -> None:
    key = make_everything(aws, tags)
    problems = looked_at(aws).problems
    assert len(problems) == len(EVERYTHING) + 1
    for name in EVERYTHING:
        assert any(f'to adopt it, add "{name}" to adopt.existing in cdk.json' in p for p in problems), name
    (line,) = (p for p in problems if f'add "encryption_key": "{key}" to adopt in cdk.json' in p)
    assert ("of the stack lockstep-two" in line) == bool(tags)
    topic = f"arn:aws:sns:eu-central-1:{aws.account_id}:pages"
    adopt = {"existing": EVERYTHING, "encryption_key": key, "topics": {"page": topic}}
    estate = looked_at(aws, adopt=adopt)
    assert (estate.problems, estate.adopt) == ([], Adopt.model_validate(adopt))
    # What no failure would tell of adopted things is a note.
    notes = {note.partition(":")[0]: note for note in estate.notes}
    assert '"EntriesStay"' in notes[f"bucket {AUDIT}"]
    assert '"NewPlansOnly"' in notes[f"bucket {PLANS}"]
    role = f"arn:aws:iam::{aws.account_id}:role/lockstep-audit-eu-central-1"
    assert role in notes[f"bucket {AUDIT}"]
    assert any(note.startswith(f"{topic}: try whether alarms arrive") for note in estate.notes)


def test_what_does_not_fit_is_refused_with_what_to_do(aws: AwsSandbox) -> None:
    refused = looked_at(aws, adopt={"existing": [AUDIT, "lockstpe"]}).problems
    assert f"{AUDIT} does not exist; leave it out there, and it is made" in refused[0]
    assert refused[1] == "adopt.existing: lockstpe is no name of this deployment that can be adopted"
    # A lock record has a time that time to live can read, and lives longer than its lease.
    dynamodb, expiry = aws.client("dynamodb"), {"Enabled": True, "AttributeName": "expires_at"}
    dynamodb.create_table(**TABLE, Tags=listed(OWN))
    dynamodb.update_time_to_live(TableName="lockstep", TimeToLiveSpecification=expiry)
    dying = make_key(aws, "alias/lockstep-audit").rpartition("/")[2]
    aws.client("kms").schedule_key_deletion(KeyId=dying, PendingWindowInDays=7)
    # A bucket must lock entries as long and as hard as the plan says.
    make_bucket(aws, AUDIT)
    for mode, days, told in (
        ("", 0, "is off for 0 days, and plan and cdk.json say"),
        ("COMPLIANCE", 30, "is COMPLIANCE for 30 days"),
        ("GOVERNANCE", 400, "is GOVERNANCE for 400 days"),
    ):
        if days:
            lock_entries(aws, Mode=mode, Days=days)
        problems = " ".join(looked_at(aws).problems)
        wanted = (
            "DynamoDB deletes its items by time to live",
            "`aws kms cancel-key-deletion --key-id ",
            told,
        )
        assert [words for words in wanted if words not in problems] == []


def test_the_keys_of_admins_secrets_are_told_to_the_policies(aws: AwsSandbox) -> None:
    key, secrets = make_key(aws), aws.client("secretsmanager")
    secrets.create_secret(Name="lockstep/admin/orders", SecretString="{}", KmsKeyId=key)
    # With the key of AWS, which needs no permission.
    secrets.create_secret(Name="lockstep/admin/ledger", SecretString="{}")
    assert looked_at(aws).adopt.keys == (key,)
    # That of another account is used though it may not be looked at.
    secrets.create_secret(Name="x", SecretString="{}", KmsKeyId=ELSEWHERE)
    with refusing("DescribeKey"):
        assert Account(aws.client, aws.region).key_of_secret("x") == ELSEWHERE


def test_a_refusal_says_what_to_do(aws: AwsSandbox) -> None:
    for code, command in (
        ("ExpiredToken", "`aws sso login`"),
        ("AccessDenied", "ReadOnlyAccess of AWS allows it"),
    ):
        with refusing("GetCallerIdentity", code=code), pytest.raises(UnansweredError, match=command):
            Account(aws.client, aws.region)


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "ROLLBACK_FAILED"])
def test_what_the_stack_manages_is_its_own_unless_it_failed_at_first(aws: AwsSandbox, status: str) -> None:
    """The CDK CLI deletes a failed stack, with what is left of it, before it deploys again."""
    table = {"Type": "AWS::DynamoDB::Table", "Properties": {**TABLE, "Tags": listed(OWN)}}
    make_stack(aws, table).status = status
    is_left = status == "UPDATE_COMPLETE"
    estate = looked_at(aws)
    assert (estate.problems, estate.adopt.existing) == ([], () if is_left else ("lockstep",))
    estate = looked_at(aws, adopt={"existing": ["lockstep"]})
    assert estate.adopt.existing == ("lockstep",)
    assert (estate.notes == ["table lockstep: the stack lets go of it, and it stays as it is"]) is is_left


def test_the_provider_of_an_issuer_is_adopted_by_its_url_and_a_role_of_the_account_by_its_name(
    aws: AwsSandbox,
) -> None:
    role = f"arn:aws:iam::{aws.account_id}:role/lockstep-oci-runner"
    assert looked_at(aws, role) == Estate(adopt=Adopt())
    provider = {"Url": ISSUER, "ClientIDList": ["sts.amazonaws.com"], "ThumbprintList": ["0" * 40]}
    iam = aws.client("iam")
    arn = iam.create_open_id_connect_provider(**provider, Tags=listed(OTHERS))["OpenIDConnectProviderArn"]
    (problem,) = looked_at(aws, role).problems
    assert f'is of the stack lockstep-two: to adopt it, add "{ISSUER}" to adopt.existing' in problem
    assert looked_at(aws, role, adopt={"existing": [ISSUER]}).adopt.existing == (ISSUER,)
    iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=arn, Tags=listed(OWN))
    assert looked_at(aws, role).adopt.existing == (ISSUER,)
    (problem,) = looked_at(aws, role.replace(aws.account_id, "999988887777")).problems
    assert f"roles are arn:aws:iam::{aws.account_id}:role/" in problem
    of_people = role.replace("lockstep-oci-runner", "path/estate-runner")
    found = looked_at(aws, of_people, adopt={"existing": ["estate-runner"]})
    assert (found.problems, found.adopt.existing) == ([], ("estate-runner", ISSUER))
    # It gets its policy from people.
    (note,) = found.notes
    assert "aws iam attach-role-policy --role-name estate-runner --policy-arn arn:aws:iam::" in note
