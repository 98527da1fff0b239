"""`python -m cdk.deploy`: what it refuses before it asks, what it says, and what it hands to the CDK CLI."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdk import app as cdk_app
from cdk.deploy import arguments, create_secrets, main, settings_of
from cdk.deployment import NotPublishedError, Publication, read_deployment
from cdk.existing import Estate
from cdk.settings import ROOT, Adopt, NotDeployableError, Settings
from lockstep.protocol.names import KEY_OUTPUT, STACK_TAG
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.resources import create_lock_table
from tests.infrastructure.cdk_case import PLAN, VPC, hollow_bundle, refusing

BUCKET = "audit-of-orders"
Said = pytest.CaptureFixture[str]


@pytest.fixture(name="plan")
def _plan(tmp_path: Path) -> Path:
    """A plan without values of the example."""
    file = tmp_path / "lockstep.yaml"
    text = (ROOT / PLAN).read_text().replace("example-lockstep-audit", BUCKET)
    file.write_text(text.replace("ca_file: ca/example.pem, ", ""))
    return file


@pytest.fixture(name="zipped")
def _zipped(plan: Path, tmp_path: Path) -> list[str]:
    """Deploy the plan as zips: an image is built from plans in the repository only."""
    bundle = hollow_bundle(tmp_path / "bundle", plan)
    return [word for one in (f"plan={plan}", "packaging=zip", f"bundle={bundle}") for word in ("-c", one)]


@pytest.fixture(name="aws")
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        yield aws


def test_a_dry_run_says_what_would_be_adopted_and_deploys_nothing(
    aws: AwsSandbox, zipped: list[str], capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_lock_table(aws.client("dynamodb"), "lockstep")
    asked = ["--dry-run", *zipped]
    assert main(asked) == 2
    assert 'to adopt it, add "lockstep" to adopt.existing' in capsys.readouterr().err
    adopting = ["-c", 'adopt={"existing": ["lockstep"]}']
    assert main([*asked, *adopting]) == 0
    said = capsys.readouterr().out
    assert "adopted: table lockstep: cdk.json says so" in said
    (adopt,) = (line.removeprefix("adopt: ") for line in said.splitlines() if line.startswith("adopt: "))
    assert Adopt.model_validate_json(adopt) == Adopt(existing=("lockstep",))
    assert f"after the deployment the plan would be published: s3://{BUCKET}-plans/plans/" in said
    assert "after it the secrets that are missing would be made" in said
    monkeypatch.setattr("cdk.deploy._CLI", Path("/not-there"))
    assert main([*zipped, *adopting]) == 2
    assert capsys.readouterr().err == "the CDK CLI is not installed; `make deploy-cdk` installs it\n"
    assert aws.client("cloudformation").list_stacks()["StackSummaries"] == []


@pytest.mark.usefixtures("aws")
def test_a_plan_bucket_of_another_account_is_said_to_be_one(zipped: list[str], capsys: Said) -> None:
    with refusing("HeadBucket", code="403"):
        assert main(["--dry-run", *zipped]) == 2
    told = capsys.readouterr().err
    assert f"bucket {BUCKET}-plans: whether it exists is not known: it belongs to another account" in told
    assert "give the plan a bucket of your own" in told


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
    aws: AwsSandbox, plan: Path, capsys: Said
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
    assert "1 tagged, 3 there" in capsys.readouterr().out
    made = secrets.describe_secret(SecretId="multi-cloud/app_user.connection")
    assert made["KmsKeyId"] == key
    assert {"Key": "team", "Value": "data"} in made["Tags"]
    with refusing("DescribeSecret"):
        assert not create_secrets(deployment, lambda service, _: aws.client(service))
    assert "repeat `lockstep secrets create --cloud aws" in capsys.readouterr().err


def test_values_of_the_example_are_refused_first(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert main(["--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "audit.aws.bucket: example-lockstep-audit is a placeholder; replace it with your value" in said
    assert "databases[0].host: orders.example.com is a placeholder; replace it with your value" in said
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({"plan": "lockstep.yaml"}))
    assert cdk_app.main() == 2
    assert "is a placeholder; replace it with your value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "text", "message"),
    [
        ("deletion_protecton=false", None, "there is no such setting; it is called deletion_protection"),
        ("alarm_email=on-call", None, "String should match"),
        ("log_retention_days=31", None, "Input should be 30, 60"),
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


def test_settings_come_from_cdk_json_and_the_command_line() -> None:
    given = ["memory_mb=1024", 'tags={"a": "b=c"}', "alarm_email=", "packaging=zip", f"vpc={json.dumps(VPC)}"]
    wanted = {"memory_mb": 1024, "tags": {"a": "b=c"}, "alarm_email": None, "packaging": "zip", "vpc": VPC}
    assert settings_of(given) == Settings.model_validate(wanted)
    with pytest.raises(NotDeployableError, match="give name=value"):
        settings_of(["memory_mb"])


@pytest.mark.usefixtures("aws")
def test_a_bundle_with_other_ca_files_is_refused(plan: Path, tmp_path: Path, capsys: Said) -> None:
    """Its functions would not find those that the published plan names."""
    other, others = tmp_path / "other.yaml", tmp_path / "others"
    (tmp_path / "ca.pem").write_text("another authority")
    other.write_text(plan.read_text().replace("admin_secret:", "ca_file: ca.pem, admin_secret:"))
    given = ["--dry-run", "-c", f"plan={plan}", "-c", "packaging=zip", "-c", f"bundle={others}"]
    assert main(given) == 2
    assert capsys.readouterr().err == f"there is no bundle in {others}; run `make build`\n"
    hollow_bundle(others, other)
    assert main(given) == 2
    assert f"that {plan} needs; run `make build PLAN={plan}`\n" in capsys.readouterr().err
    # The plan itself is not in it: another one with the same CA files is deployed without a new bundle.
    hollow_bundle(others, plan)
    plan.write_text(plan.read_text() + "# changed\n")
    assert main(given) == 0


def test_an_account_that_does_not_answer_stops_it_and_says_how_to_sign_in(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert main(["--dry-run", "-c", f"plan={plan}", "--profile", "not-there"]) == 2
    assert "not-there" in capsys.readouterr().err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/not-there")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/not-there")
    assert main(["--dry-run", "-c", f"plan={plan}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "sign in, for example by `aws sso login`" in line


def test_the_cli_gets_the_complete_adopt_and_all_other_arguments() -> None:
    estate = Estate(adopt=Adopt(existing=("a",)))
    given = arguments(estate, ["--require-approval", "never"], ["plan=p.yaml", 'adopt={"existing": []}'])
    assert given[:3] == ["deploy", "--context", "plan=p.yaml"]
    assert given[-2:] == ["--require-approval", "never"]
    (adopt,) = (part.removeprefix("adopt=") for part in given if part.startswith("adopt="))
    assert settings_of([f"adopt={adopt}"]).adopt == estate.adopt
