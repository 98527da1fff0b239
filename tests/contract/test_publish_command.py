"""`lockstep plan publish`, over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.plan.file import load_plan
from lockstep.plan.published import compile_plan, credential_name, folder_of
from lockstep.protocol.deadlines import Scope
from lockstep.protocol.errors import PlanDocumentRefusedError
from lockstep.protocol.schedule import run_key
from lockstep.runtime.identity import AWS_RUNNER, OCI_RUNNER
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import PLAN_VARIABLE, forget, hosted_runner, hosted_source
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from tests.contract.clouds import OciConsole


class World:
    """Both clouds, without a bucket for a plan, and a plan with runners in both."""

    def __init__(self, aws: AwsSandbox, oci: OciSandbox, folder: Path) -> None:
        self.oci, self.s3, self.console = oci, aws.client("s3"), OciConsole(oci)
        text = (Path(__file__).parents[2] / "lockstep.yaml").read_text(encoding="utf-8")
        self.file = folder / "lockstep.yaml"
        self.file.write_text(text.replace("examplenamespace", oci.namespace), encoding="utf-8")
        self.plan = load_plan(self.file)
        streams: Any = (self.plan.compiled.aws_stream, self.plan.compiled.oci_stream)
        self.region, self.buckets = streams[0].region, [f"{stream.bucket}-plans" for stream in streams]

    def make_buckets(self) -> None:
        in_aws, in_oci = self.buckets
        place = {"LocationConstraint": self.region}
        self.s3.create_bucket(Bucket=in_aws, CreateBucketConfiguration=place)
        self.s3.put_bucket_versioning(Bucket=in_aws, VersioningConfiguration={"Status": "Enabled"})
        self.console.create_bucket(in_oci)

    def forge(self, name: str, content: bytes) -> None:
        """Write a document, as who has the right to write to the buckets."""
        in_aws, in_oci = self.buckets
        self.s3.put_object(Bucket=in_aws, Key=name, Body=content)
        self.console.storage.put_object(self.oci.namespace, in_oci, name, content)

    def publish(self, *words: str) -> Result:
        return CliRunner().invoke(app, ["plan", "publish", "--plan", str(self.file), *words])


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[World]:
    with AwsSandbox() as aws, OciSandbox() as oci:
        config = str(write_config_file(tmp_path, "operator", oci.config()))
        in_oci = {"OCI_CONFIG_FILE": config, "LOCKSTEP_OCI_ENDPOINT": oci.endpoint}
        with environment({**aws.environment(), **in_oci}):
            yield World(aws, oci, tmp_path)


def test_a_plan_is_published_in_both_clouds_and_functions_find_it_and_take_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, credential = world.plan, world.plan.credentials[0]
    published = compile_plan(plan.compiled, plan.shards, world.file.parent)
    digest, number = published.digest, len(published.files)
    shown = world.publish("--digest")
    assert (shown.exit_code, shown.stdout) == (0, f"{digest}\n")
    world.make_buckets()
    dry = world.publish("--dry-run").stdout
    assert dry.count(f"0 documents were there, {number} would be written") == 2
    shown = world.publish()
    assert shown.exit_code == 0, shown.output
    assert f"digest {digest}" in shown.stdout
    assert shown.stdout.count(f"0 documents were there, {number} written") == 2
    assert "whether that is this one: lockstep doctor --in-cloud" in shown.stdout
    told = f"\n  {number} documents were there, 0 written\n"
    addresses = [text.rpartition("\n")[2] for text in world.publish().stdout.split(told)[:-1]]
    # Who writes to the buckets stops rotations, and sends no login elsewhere.
    name, clock = credential_name(run_key(credential.id)), SystemClock()
    forged = published.files[name].replace(b'"host":"', b'"host":"elsewhere.')
    assert forged != published.files[name]
    for is_forged in (False, True):
        if is_forged:
            world.forge(f"{folder_of(digest)}/{name}", forged)
        for identity, address in zip((AWS_RUNNER, OCI_RUNNER), addresses, strict=True):
            monkeypatch.setenv(PLAN_VARIABLE, address)
            forget()
            with Scope(clock, ends_at=clock.monotonic() + 30, leave=lambda: None).open():
                if is_forged:
                    with pytest.raises(PlanDocumentRefusedError):
                        hosted_runner(identity).ports(credential.id)
                    continue
                assert hosted_runner(identity).ports(credential.id).credential == credential
                assert [c.id for c in hosted_source().index.credentials] == [c.id for c in plan.credentials]


def test_a_missing_bucket_ends_with_three_and_the_next_command_but_before_a_first_deployment(
    world: World,
) -> None:
    for cloud in ("aws", "oci"):
        shown = world.publish("--cloud", cloud)
        assert shown.exit_code == 3
        assert f"make deploy-{cloud}" in shown.output
        assert "The bucket of the published plan does not exist" in shown.output
    shown = world.publish("--if-there")
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("its bucket does not exist yet") == 2
    world.make_buckets()
    world.oci.faults.refuse(service="objectstorage", status=403, code="NotAllowed", times=1)
    assert world.publish("--if-there", "--cloud", "oci").exit_code == 3
