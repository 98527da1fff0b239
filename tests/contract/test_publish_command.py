"""`lockstep plan publish`, over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.plan.file import load_plan
from lockstep.plan.published import compile_plan
from lockstep.protocol.deadlines import Scope
from lockstep.runtime.identity import AWS_RUNNER, OCI_RUNNER
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import PLAN_VARIABLE, forget, hosted_runner, hosted_source
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from tests.contract.oci_fixtures import OciConsole


@pytest.fixture(name="plan_file")
def _plan_file(tmp_path: Path) -> Path:
    """A plan with runners in both clouds."""
    text = (Path(__file__).parents[2] / "lockstep.yaml").read_text(encoding="utf-8")
    file = tmp_path / "lockstep.yaml"
    file.write_text(text.replace("examplenamespace", OciSandbox().namespace), encoding="utf-8")
    return file


@pytest.fixture(name="clouds")
def _clouds(tmp_path: Path) -> Iterator[tuple[AwsSandbox, OciSandbox]]:
    with AwsSandbox() as aws, OciSandbox() as oci:
        config = str(write_config_file(tmp_path, "operator", oci.config()))
        in_oci = {"OCI_CONFIG_FILE": config, "LOCKSTEP_OCI_ENDPOINT": oci.endpoint}
        with environment({**aws.environment(), **in_oci}):
            yield aws, oci


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", *words])


def _make_buckets(plan_file: Path, aws: AwsSandbox, oci: OciSandbox) -> None:
    compiled = load_plan(plan_file).compiled
    assert compiled.oci_stream
    bucket, s3 = f"{compiled.aws_stream.bucket}-plans", aws.client("s3")
    s3.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": compiled.aws_stream.region}
    )
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    OciConsole(oci).create_bucket(f"{compiled.oci_stream.bucket}-plans")


def test_a_plan_is_published_in_both_clouds_and_functions_find_it(
    plan_file: Path, clouds: tuple[AwsSandbox, OciSandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, words = load_plan(plan_file), ("publish", "--plan", str(plan_file))
    published = compile_plan(plan.compiled, plan.shards, plan_file.parent)
    digest, number = published.digest, len(published.files)
    shown = run(*words, "--digest")
    assert (shown.exit_code, shown.stdout) == (0, f"{digest}\n")
    _make_buckets(plan_file, *clouds)
    assert run(*words, "--dry-run").stdout.count(f"0 documents were there, {number} would be written") == 2
    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    assert f"digest {digest}" in shown.stdout
    assert shown.stdout.count(f"0 documents were there, {number} written") == 2
    assert "whether that is this one: lockstep doctor --in-cloud" in shown.stdout
    told = f"\n  {number} documents were there, 0 written\n"
    addresses = [text.rpartition("\n")[2] for text in run(*words).stdout.split(told)[:-1]]
    for identity, address in zip((AWS_RUNNER, OCI_RUNNER), addresses, strict=True):
        monkeypatch.setenv(PLAN_VARIABLE, address)
        forget()
        clock = SystemClock()
        with Scope(clock, ends_at=clock.monotonic() + 30, leave=lambda: None).open():
            assert hosted_runner(identity).ports(plan.credentials[0].id).credential == plan.credentials[0]
            assert [c.id for c in hosted_source().index.credentials] == [c.id for c in plan.credentials]


def test_a_missing_bucket_ends_with_three_and_the_next_command_but_before_a_first_deployment(
    plan_file: Path, clouds: tuple[AwsSandbox, OciSandbox]
) -> None:
    for cloud in ("aws", "oci"):
        shown = run("publish", "--plan", str(plan_file), "--cloud", cloud)
        assert shown.exit_code == 3
        assert f"make deploy-{cloud}" in shown.output
        assert "The bucket of the published plan does not exist" in shown.output
    words = ("publish", "--plan", str(plan_file), "--if-there")
    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("its bucket does not exist yet") == 2
    _make_buckets(plan_file, *clouds)
    clouds[1].faults.refuse(service="objectstorage", status=403, code="NotAllowed", times=1)
    assert run(*words, "--cloud", "oci").exit_code == 3
