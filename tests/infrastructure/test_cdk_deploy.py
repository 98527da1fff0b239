"""`python -m cdk.deploy`: what it refuses before it asks, what it says, and what it hands to the CDK CLI."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdk import app as cdk_app
from cdk.bundle import build
from cdk.deploy import arguments, create_secrets, main, settings_of, unpublishable
from cdk.deployment import NotPublishedError, Publication, read_deployment
from cdk.existing import Estate
from cdk.settings import ROOT, Adopt, NotDeployableError, Settings
from lockstep.plan.file import load_plan
from lockstep.protocol.names import KEY_OUTPUT, STACK_TAG
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from tests.infrastructure.cdk_case import PLAN, refusing

BUCKET = "audit-of-orders"


def plan_in(folder: Path) -> Path:
    """A plan without values of the example."""
    text = (ROOT / PLAN).read_text().replace("example-lockstep-audit", BUCKET)
    file = folder / "lockstep.yaml"
    file.write_text(text.replace("ca_file: ca/example.pem, ", ""))
    return file


@pytest.fixture(name="plan")
def _plan(tmp_path: Path) -> Path:
    return plan_in(tmp_path)


@pytest.fixture(scope="module", name="bundle")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for the plan, which is not in it."""
    folder = tmp_path_factory.mktemp("bundle")
    build("aws", plan_file=plan_in(folder), out=folder / "bundle")
    return folder / "bundle"


@pytest.fixture(name="zipped")
def _zipped(plan: Path, bundle: Path) -> list[str]:
    """Deploy the plan as zips: an image is built from plans in the repository only."""
    given = [f"plan={plan}", "packaging=zip", f"bundle={bundle}"]
    return [word for one in given for word in ("-c", one)]


@pytest.fixture(name="aws")
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        yield aws


def test_a_dry_run_says_what_would_be_adopted_and_deploys_nothing(
    aws: AwsSandbox, zipped: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    create_lock_table(aws.client("dynamodb"), "lockstep")
    asked = ["--dry-run", *zipped]
    assert main(asked) == 2
    assert 'to adopt it, add "lockstep" to adopt.existing' in capsys.readouterr().err
    assert main([*asked, "-c", 'adopt={"existing": ["lockstep"]}']) == 0
    said = capsys.readouterr().out
    assert "adopted: table lockstep: cdk.json says so" in said
    (adopt,) = (line.removeprefix("adopt: ") for line in said.splitlines() if line.startswith("adopt: "))
    assert Adopt.model_validate_json(adopt) == Adopt(existing=("lockstep",))
    assert f"after the deployment the plan would be published: s3://{BUCKET}-plans/plans/" in said
    assert "after it the secrets that are missing would be made" in said
    assert aws.client("cloudformation").list_stacks()["StackSummaries"] == []


def test_a_plan_is_published_once_and_what_others_wrote_stops_it(aws: AwsSandbox, plan: Path) -> None:
    s3, name = aws.client("s3"), f"{BUCKET}-plans"
    publication = Publication(read_deployment(Settings(plan=plan)), s3)
    with pytest.raises(NotPublishedError, match="PlanAccessDeniedError"):
        publication.publish()
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.region})
    # Two credentials, two shards, the index.
    assert "0 documents were there, 5 written" in publication.publish()
    assert "5 documents were there, 0 written" in publication.publish()
    folder = publication.address.partition(f"{name}/")[2].partition("?")[0]
    s3.put_object(Bucket=name, Key=f"{folder}/shards/20m-00.json", Body=b"[]")
    with pytest.raises(NotPublishedError, match="1 documents have other content"):
        publication.publish()


def test_the_secrets_that_credentials_lack_are_made_with_the_key_and_the_tags_of_the_stack(
    aws: AwsSandbox, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "t"}}
    template = {"Resources": {"Topic": topic}, "Outputs": {KEY_OUTPUT: {"Value": key}}}
    aws.client("cloudformation").create_stack(StackName="lockstep", TemplateBody=json.dumps(template))
    deployment = read_deployment(Settings(plan=plan, tags={"team": "data"}))
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="multi-cloud/app_user", SecretString="in use")
    assert not create_secrets(deployment, lambda service, _: aws.client(service))
    told = capsys.readouterr()
    assert "multi-cloud/app_user: it exists, and people made it" in " ".join(told.err.split())
    assert "lockstep secrets tag --stack lockstep --yes" in told.out
    assert "3 made" in told.out
    tags = [{"Key": STACK_TAG, "Value": "lockstep"}]
    secrets.tag_resource(SecretId="multi-cloud/app_user", Tags=tags)
    assert create_secrets(deployment, lambda service, _: aws.client(service))
    assert "3 there already, 0 made, 1 tagged" in capsys.readouterr().out
    made = secrets.describe_secret(SecretId="multi-cloud/app_user.connection")
    assert made["KmsKeyId"] == key
    assert {"Key": "team", "Value": "data"} in made["Tags"]
    with refusing("DescribeSecret"):
        assert not create_secrets(deployment, lambda service, _: aws.client(service))
    assert "repeat `lockstep secrets create --cloud aws" in capsys.readouterr().err


@pytest.mark.usefixtures("aws")
def test_a_plan_bucket_of_another_account_is_said_to_be_one(
    zipped: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with refusing("HeadBucket", code="403"):
        assert main(["--dry-run", *zipped]) == 2
    told = capsys.readouterr().err
    assert f"bucket {BUCKET}-plans: whether it exists is not known: it belongs to another account" in told
    assert "give the plan a bucket of your own" in told


def test_a_canary_is_not_awaited_where_the_plan_cannot_be_published_before(plan: Path) -> None:
    machine = "arn:aws:states:eu-central-1:111122223333:stateMachine:lockstep"
    alias = "AWS::StepFunctions::StateMachineAlias"
    before = {(alias, f"{machine}:live"), (alias, f"{machine}:gate"), (alias, f"{machine}:canary")}
    credential_id = load_plan(plan).credentials[0].id
    guarded = read_deployment(Settings(plan=plan, canary=credential_id, schedules=True))
    (problem,) = unpublishable(guarded, before, is_there=False)
    assert f"{credential_id} cannot rotate" in problem
    assert 'make deploy-aws CDK_ARGS="-c canary="' in problem
    assert list(unpublishable(guarded, before, is_there=True)) == []
    # Nothing waits: for the first canary, without one, and where no schedule is on.
    assert list(unpublishable(guarded, {(alias, f"{machine}:live")}, is_there=False)) == []
    for settings in (Settings(plan=plan), Settings(plan=plan, canary=credential_id)):
        assert list(unpublishable(read_deployment(settings), before, is_there=False)) == []


def test_values_of_the_example_are_refused_before_any_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "audit.aws.bucket: example-lockstep-audit is an example; give your own" in said
    assert "databases[0].host: orders.example.com is an example; give your own" in said


def test_cdk_synth_refuses_values_of_the_example_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({"plan": "lockstep.yaml"}))
    assert cdk_app.main() == 2
    assert "is an example; give your own" in capsys.readouterr().err


def test_an_account_that_does_not_answer_stops_it(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "-c", f"plan={plan}", "--profile", "not-there"]) == 2
    assert "not-there" in capsys.readouterr().err


def test_settings_come_from_cdk_json_and_the_command_line() -> None:
    settings = settings_of(["memory_mb=1024", 'tags={"a": "b=c"}', "alarm_email="])
    assert settings.alarm_email is None
    assert (settings.memory_mb, settings.tags, settings.stack) == (1024, {"a": "b=c"}, "lockstep")
    with pytest.raises(NotDeployableError, match="give name=value"):
        settings_of(["memory_mb"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("deletion_protecton=false", "there is no such setting; it is called deletion_protection"),
        ("alarm_email=on-call", "alarm_email: String should match"),
        ("log_retention_days=31", "log_retention_days: Input should be 30, 60"),
        ("memory_mb=much", "memory_mb: Input should be a valid integer"),
    ],
)
def test_a_wrong_setting_on_the_command_line_is_one_line(
    given: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dry-run", "-c", given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cdk.json: {given.partition('=')[0]}: ")
    assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"context": {"stack": "a",}}', "cdk.json: it is not valid JSON: "),
        ('{"app": "x"}', "cdk.json: it has no settings"),
    ],
)
def test_a_broken_cdk_json_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    message: str,
) -> None:
    (tmp_path / "cdk.json").write_text(text)
    monkeypatch.setattr("cdk.deploy.ROOT", tmp_path)
    assert main(["--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_a_bundle_with_other_ca_files_is_refused(
    plan: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its functions would not find those that the published plan names."""
    other = tmp_path / "other.yaml"
    (tmp_path / "ca.pem").write_text("another authority")
    other.write_text(
        plan.read_text()
        .replace("admin_secret:", "ca_file: ca.pem, admin_secret:")
        .replace("ca_file: ca/example.pem, ca_file", "ca_file")
    )
    others = tmp_path / "bundle"
    given = ["--dry-run", "-c", f"plan={plan}", "-c", "packaging=zip", "-c"]
    assert main([*given, f"bundle={others}"]) == 2
    assert capsys.readouterr().err == f"there is no bundle in {others}; run `make build`\n"
    build("aws", plan_file=other, out=others)
    assert main([*given, f"bundle={others}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"the bundle in {others} has not the CA files, or not the SDK of OCI, that {plan} needs; run `make build "
        f"PLAN={plan}`"
    )
    # The plan itself is not in it: another one with the same CA files is deployed without a new bundle.
    plan.write_text(plan.read_text() + "# changed\n")
    main([*given, f"bundle={bundle}"])
    assert "the bundle" not in capsys.readouterr().err


def test_without_credentials_it_says_how_to_sign_in(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/not-there")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/not-there")
    assert main(["--dry-run", "-c", f"plan={plan}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "sign in, for example by `aws sso login`" in line


@pytest.mark.usefixtures("aws")
def test_without_the_cli_it_says_how_to_install_it(
    zipped: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cdk.deploy._CLI", Path("/not-there"))
    assert main(zipped) == 2
    assert capsys.readouterr().err == "the CDK CLI is not installed; `make cdk-cli` installs it\n"


def test_the_cli_gets_the_complete_adopt_and_all_other_arguments() -> None:
    estate = Estate(adopt=Adopt(existing=("a",)))
    given = arguments(estate, ["--require-approval", "never"], ["plan=p.yaml", 'adopt={"existing": []}'])
    assert given[:3] == ["deploy", "--context", "plan=p.yaml"]
    assert given[-2:] == ["--require-approval", "never"]
    (adopt,) = (part.removeprefix("adopt=") for part in given if part.startswith("adopt="))
    assert settings_of([f"adopt={adopt}"]).adopt == estate.adopt
