"""`python -m cdk.deploy`: its settings, what it refuses, says, and hands to the CDK CLI. And the way back."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from moto.cloudformation.models import cloudformation_backends

from cdk import app as cdk_app
from cdk import rollback
from cdk.deploy import arguments, create_secrets, main, settings_of
from cdk.deployment import (
    NotPublishedError,
    Publication,
    check_canary,
    check_deployable,
    check_oci_role,
    read_deployment,
)
from cdk.existing import Estate
from cdk.settings import ROOT, Adopt, NotDeployableError, Settings
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.protocol.names import KEY_OUTPUT
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from tests.infrastructure.cdk_case import (
    ADOPTED_KEY,
    BOTH_CLOUDS,
    CANARY,
    FEDERATED,
    NO_CANARY,
    PLAN,
    TOPICS,
    VPC,
    hollow_bundle,
    refusing,
    synthesise,
)
from tests.support.aws import package

BUCKET = "audit-of-orders"
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
        ("adopt", {"topics": {"page": ADOPTED_KEY}}, "adopt.topics.page: String should match"),
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


@pytest.mark.parametrize(
    ("given", "text", "message"),
    [
        ("deletion_protecton=false", None, "there is no such setting; it is called deletion_protection"),
        ("alarm_email=on-call", None, "String should match"),
        ("stack=lockstep", '{"context": {"stack": "a",}}', "it is not valid JSON: "),
        ("stack=lockstep", '{"app": "x"}', "it has no settings"),
    ],
)
def test_a_wrong_setting_is_one_line(
    given: str, text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    if text:
        (tmp_path / "cdk.json").write_text(text)
        monkeypatch.setattr("cdk.deploy.ROOT", tmp_path)
    assert main(["--dry-run", "-c", given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    where = "cdk.json: " if text else f"cdk.json: {given.partition('=')[0]}: "
    assert line.startswith(where + message)


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


def changed(tmp_path: Path, file: Path, was: str, becomes: str) -> Plan:
    text = (ROOT / file).read_text()
    assert was in text
    (tmp_path / "lockstep.yaml").write_text(text.replace(was, becomes))
    return load_plan(tmp_path / "lockstep.yaml")


@pytest.mark.parametrize(
    ("file", "was", "becomes", "message"),
    [
        (PLAN, "interval: 1h", "interval: 4d", "half a week"),
        (PLAN, "retention: 400d", "retention: 36h", "whole days"),
        (PLAN, "{table: lockstep, region: eu-central-1", "{table: lockstep, region: eu-west-1", "one region"),
        (PLAN, "alias/lockstep-audit", "alias/lockstep", "the alias of the key that encrypts"),
        (PLAN, "alias/lockstep-audit", "alias/lockstep-digests", "the alias of the key that signs digests"),
        (FEDERATED, "alias/lockstep-oci-client", "alias/lockstep", "another key's"),
    ],
)
def test_a_plan_aws_cannot_run(tmp_path: Path, file: Path, was: str, becomes: str, message: str) -> None:
    with pytest.raises(NotDeployableError, match=message):
        check_deployable(changed(tmp_path, file, was, becomes))


def test_settings_that_do_not_fit_the_plan_are_refused(tmp_path: Path) -> None:
    plan = load_plan(ROOT / FEDERATED)
    check_oci_role(plan, Settings())
    with pytest.raises(NotDeployableError, match="name arn:aws:iam::111122223333:role/two-oci-runner, or"):
        check_oci_role(plan, Settings(stack="two"))
    check_oci_role(plan, Settings(stack="two", adopt=Adopt(existing=("lockstep-oci-runner",))))
    check_oci_role(load_plan(ROOT / BOTH_CLOUDS), Settings(stack="two"))
    # A canary that is not there, or for which no deployment can wait.
    for interval, canary, message in (
        ("2d", CANARY, ""),
        ("1d", NO_CANARY, ""),
        ("2d", "somebody", "canary: the plan has no credential somebody"),
        ("2d", NO_CANARY, "a deployment cannot wait"),
    ):
        of_days = changed(tmp_path, PLAN, "interval: 1h", f"interval: {interval}")
        if message:
            with pytest.raises(NotDeployableError, match=message):
                check_canary(of_days, canary)
        else:
            check_canary(of_days, canary)
    # An address needs a topic to subscribe to.
    with pytest.raises(NotDeployableError, match="alarm_email: both topics are adopted"):
        synthesise(load_plan(ROOT / PLAN), adopt={"topics": dict(TOPICS)}, alarm_email="a@example.com")


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


def make_stack(aws: AwsSandbox, **outputs: str) -> None:
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "t"}}
    told = {name: {"Value": value} for name, value in outputs.items()}
    template = json.dumps({"Resources": {"Topic": topic}, "Outputs": told})
    aws.client("cloudformation").create_stack(StackName="lockstep", TemplateBody=template)


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


def test_the_secrets_that_credentials_lack_are_made_with_the_key_and_the_tags_of_the_stack(
    aws: AwsSandbox, plan: Path, capsys: Said
) -> None:
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    make_stack(aws, **{KEY_OUTPUT: key})
    deployment = read_deployment(Settings(plan=plan, tags={"team": "data"}))
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="multi-cloud/app_user", SecretString="in use")
    assert not create_secrets(deployment, lambda service, _: aws.client(service))
    told = capsys.readouterr()
    assert "multi-cloud/app_user: it exists, and people made it" in " ".join(told.err.split())
    made = secrets.describe_secret(SecretId="multi-cloud/app_user.connection")
    assert made["KmsKeyId"] == key
    assert {"Key": "team", "Value": "data"} in made["Tags"]
    secrets.delete_secret(SecretId="multi-cloud/app_user", ForceDeleteWithoutRecovery=True)
    assert create_secrets(deployment, lambda service, _: aws.client(service))
    with refusing("DescribeSecret"):
        assert not create_secrets(deployment, lambda service, _: aws.client(service))
    assert "repeat `lockstep secrets create --cloud aws" in capsys.readouterr().err


def test_values_of_the_example_are_refused_first(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert main(["--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "audit.aws.bucket: example-lockstep-audit is a placeholder; replace it with your value" in said
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({"plan": "lockstep.yaml"}))
    assert cdk_app.main() == 2
    assert "is a placeholder; replace it with your value" in capsys.readouterr().err


def test_an_account_that_does_not_answer_stops_it_and_says_how_to_sign_in(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert main(["--dry-run", "-c", f"plan={plan}", "--profile", "not-there"]) == 2
    assert "not-there" in capsys.readouterr().err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/not-there")
    assert main(["--dry-run", "-c", f"plan={plan}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "sign in, for example by `aws sso login`" in line


# ---- `make rollback-aws` moves the aliases that rules start, to versions that can run

FUNCTION = "lockstep-audit"


@pytest.fixture(name="versions")
def _versions(aws: AwsSandbox) -> AwsSandbox:
    """An account whose machine has three versions, each of which calls its version of a function."""
    trust = {"Version": "2012-10-17", "Statement": []}
    arn = aws.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(trust))["Role"][
        "Arn"
    ]
    functions, states = aws.client("lambda"), aws.client("stepfunctions")
    functions.create_function(
        FunctionName=FUNCTION,
        Role=arn,
        Runtime="python3.12",
        Handler="code.handler",
        Code={"ZipFile": package("0")},
    )
    machine = states.create_state_machine(name="lockstep", definition=calling(FUNCTION), roleArn=arn)
    named = {"stateMachineArn": machine["stateMachineArn"]}
    for number in ("1", "2", "3"):
        functions.update_function_code(FunctionName=FUNCTION, ZipFile=package(number))
        called = functions.publish_version(FunctionName=FUNCTION)["FunctionArn"]
        states.update_state_machine(**named, definition=calling(called))
        version = states.publish_state_machine_version(**named)["stateMachineVersionArn"]
    for alias in ("live", "canary", "gate"):
        routes = [{"stateMachineVersionArn": version, "weight": 100}]
        states.create_state_machine_alias(name=alias, routingConfiguration=routes)
    make_stack(aws, StateMachineArn=f"{machine['stateMachineArn']}:live")
    return aws


def calling(function: str) -> str:
    """The definition of a machine."""
    state = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    state["Arguments"] = {"FunctionName": function}
    return json.dumps({"QueryLanguage": "JSONata", "StartAt": "Call", "States": {"Call": state}})


def aliases(aws: AwsSandbox) -> Mapping[str, str]:
    """The version that each alias leads to."""
    client = aws.client("stepfunctions")
    (machine,) = client.list_state_machines()["stateMachines"]
    arns = {alias: f"{machine['stateMachineArn']}:{alias}" for alias in ("live", "canary", "gate")}
    found = {a: client.describe_state_machine_alias(stateMachineAliasArn=arn) for a, arn in arns.items()}
    return {
        a: f["routingConfiguration"][0]["stateMachineVersionArn"].rpartition(":")[2] for a, f in found.items()
    }


def test_one_command_leads_back_and_forth_to_versions_that_can_run(
    versions: AwsSandbox, capsys: Said
) -> None:
    def roll_back(*more: str) -> tuple[int, str]:
        ended = rollback.main(["-c", "stack=lockstep", "-c", f"plan={PLAN}", *more])
        said = capsys.readouterr()
        return ended, said.out + said.err

    ended, said = roll_back("--dry-run")
    assert (ended, "lockstep: live would be moved from version 3 to 2" in said) == (0, True)
    assert set(aliases(versions).values()) == {"3"}
    ended, said = roll_back()
    assert (ended, "lockstep: canary moved from version 3 to 2" in said) == (0, True)
    # Nothing starts by the gate.
    assert aliases(versions) == {"live": "2", "canary": "2", "gate": "3"}
    assert roll_back("--to", "3")[0] == 0
    assert set(aliases(versions).values()) == {"3"}

    versions.client("lambda").delete_function(FunctionName=FUNCTION, Qualifier="1")
    (stack,) = cloudformation_backends[versions.account_id][versions.region].stacks.values()
    for words, status, why in (
        (["--to", "1"], "UPDATE_COMPLETE", "version 1 calls what was deleted"),
        (["--to", "77"], "UPDATE_COMPLETE", "there is no version 77"),
        # A deployment under way moves them itself.
        ([], "UPDATE_IN_PROGRESS", "cancel-update-stack"),
    ):
        stack.status = status
        ended, said = roll_back(*words)
        assert (ended, why in said) == (2, True), said
    assert set(aliases(versions).values()) == {"3"}
