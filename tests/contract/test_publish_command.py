"""`lockstep plan publish` and `lockstep identity publish`, over HTTP; the latter over HTTPS as a verifier reads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from jwt.algorithms import RSAAlgorithm
from typer.testing import Result

from lockstep.plan.file import load_plan
from lockstep.plan.published import compile_plan, credential_name, folder_of
from lockstep.protocol.deadlines import Scope
from lockstep.protocol.errors import PlanDocumentRefusedError
from lockstep.protocol.federation import CACHE_CONTROL, CONFIGURATION, KEYS
from lockstep.protocol.model import Engine
from lockstep.protocol.schedule import run_key
from lockstep.runtime.identity import AWS_RUNNER, OCI_RUNNER
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import PLAN_VARIABLE, forget, hosted_runner, hosted_source
from sandbox import plans
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from sandbox.oci_resources import create_issuer_bucket
from tests.contract.clouds import OciConsole
from tests.contract.test_calls_of_commands import listed_in_oci
from tests.statemachine.conftest import lockstep


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
        return lockstep("plan", "publish", "--plan", str(self.file), *words)


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


# The documents of the issuer, by which AWS trusts the standby

BUCKET = "lockstep-issuer"
RIGHTS = sorted(set().union(*listed_in_oci("identity publish").values()))


class Issuer:
    """A tenancy with a key and a public bucket, and the command in it.

    The command acts as a principal with the permissions that docs/iam-oci.md lists.
    """

    def __init__(self, sandbox: OciSandbox, folder: Path) -> None:
        self.oci, self.file = sandbox, folder / "lockstep.yaml"
        self.storage: Any = sandbox.client(oci.object_storage.ObjectStorageClient)
        self.key = sandbox.keys.new_key(sandbox.compartment_id, sandbox.vault_id, name="issuer")
        self.url = create_issuer_bucket(sandbox, BUCKET)
        self.version = self.key.versions[0].ocid
        config = write_config_file(folder, "deployer", sandbox.new_api_key("deployer", *RIGHTS))
        self._variables = {"LOCKSTEP_OCI_ENDPOINT": sandbox.endpoint, "OCI_CONFIG_FILE": str(config)}
        self.plan(self.version)

    def plan(self, version: str, **federation: object) -> None:
        """The plan names this version."""
        names = plans.OciNames(vault_id=self.oci.vault_id, namespace=self.oci.namespace)
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, tls="")],
            [plans.credential("multi-cloud/app_user", "orders")],
            oci=names,
        )
        key = {**plans.TO_AWS["key"], "id": self.key.ocid, "version": version}
        document["runners"]["oci"] = {
            "federation": {**plans.TO_AWS, "issuer": self.url, "key": key, **federation}
        }
        self.file.write_text(json.dumps(document))

    def run(self, *words: str) -> Result:
        """Run the command."""
        self.oci.calls.clear()
        with environment(self._variables):
            return lockstep("identity", "publish", "-p", str(self.file), *words)

    def done(self, *words: str) -> str:
        """Run the command, which succeeds; what it says."""
        shown = self.run(*words)
        assert shown.exit_code == 0, shown.output
        return shown.stdout

    @property
    def written(self) -> list[str]:
        """What the last command has written, in order."""
        return [
            r.resource.removeprefix(f"{BUCKET}/")
            for r in self.oci.calls.records
            if r.operation == "put_object"
        ]

    def read(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """A document as everyone reads it."""
        return json.loads(self.oci.names.fetch(f"{self.url}/{name}"))

    def put(self, name: str, content: bytes) -> None:
        self.storage.put_object(self.oci.namespace, BUCKET, name, content)


@pytest.fixture(name="issuer")
def _issuer(tmp_path: Path) -> Iterator[Issuer]:
    with OciSandbox() as found:
        yield Issuer(found, tmp_path)


def trusted(issuer: Issuer) -> list[str]:
    """The key versions that verifiers trust."""
    return [key["kid"] for key in issuer.read(KEYS)["keys"]]


def new_version(issuer: Issuer) -> str:
    """Make the key's next version, as its administrator does."""
    issuer.oci.client(oci.key_management.KmsManagementClient).create_key_version(issuer.key.ocid)
    return issuer.key.versions[-1].ocid


def refused(shown: Result, code: int, *told: str) -> None:
    assert shown.exit_code == code, shown.output
    for text in told:
        assert text in shown.output


def test_the_documents_are_published_in_order_and_then_left_alone(issuer: Issuer) -> None:
    assert issuer.done("--dry-run").count("would be written") == 2
    assert issuer.written == []
    assert "read back as AWS reads them" in issuer.done()
    assert issuer.written == [KEYS, CONFIGURATION]
    told = issuer.read(CONFIGURATION)
    assert (told["issuer"], told["jwks_uri"]) == (issuer.url, f"{issuer.url}/{KEYS}")
    assert told["id_token_signing_alg_values_supported"] == ["RS256"]
    [key] = issuer.read(KEYS)["keys"]
    assert (key["kty"], key["use"], key["alg"], key["kid"]) == ("RSA", "sig", "RS256", issuer.version)
    published: Any = RSAAlgorithm.from_jwk(key)
    assert published.public_numbers() == issuer.key.versions[0].public_key.public_numbers()
    headers = issuer.storage.get_object(issuer.oci.namespace, BUCKET, KEYS).headers
    assert (headers["content-type"], headers["cache-control"]) == ("application/json", CACHE_CONTROL)
    assert ("nothing to do" in issuer.done(), issuer.written) == (True, [])
    # With another content type it is written again.
    issuer.put(KEYS, issuer.oci.names.fetch(f"{issuer.url}/{KEYS}"))
    issuer.done()
    assert issuer.written == [KEYS]


def test_every_enabled_version_is_trusted_and_what_comes_next_is_told(issuer: Issuer) -> None:
    issuer.done()
    new = new_version(issuer)
    told = issuer.done()
    assert trusted(issuer) == [new, issuer.version]
    assert f"trusted: {issuer.version}, signs\n" in told
    leaving = f"--key-id {issuer.key.ocid} --key-version-id {issuer.version}"
    steps = ("wait 24 h", f"runners.oci.federation.key.version: {new}; then make deploy-oci", leaving)
    assert sorted(steps, key=told.index) == list(steps)
    issuer.plan(new)
    told = issuer.done()
    assert ("wait 24 h" in told, leaving in told) == (False, True)
    issuer.key.versions[0].state = "PENDING_DELETION"
    assert "Next:" not in issuer.done()
    assert (trusted(issuer), issuer.written) == ([new], [KEYS])


def test_what_is_of_somebody_else_is_told_and_replaced_by_order_alone(issuer: Issuer) -> None:
    for name, content in (
        (KEYS, b'{"keys": [{"kty": "RSA"}]}'),
        (CONFIGURATION, b'{"issuer": "https://other.example.com"}'),
    ):
        issuer.put(name, content)
        refused(issuer.run(), 1, name, "lockstep identity publish --replace")
        assert issuer.written == []
        issuer.done("--replace")
        assert name in issuer.written
    keys = issuer.read(KEYS)
    keys["keys"].append({**keys["keys"][0], "kid": "mine"})
    issuer.put(KEYS, json.dumps(keys).encode())
    for words in ((), ("--dry-run",)):
        refused(issuer.run(*words), 1, "mine", "lockstep identity publish --replace")
        assert issuer.written == []
    issuer.done("--replace")
    assert trusted(issuer) == [issuer.version]


def test_two_writers_do_not_write_over_each_other(issuer: Issuer) -> None:
    issuer.done()
    new_version(issuer)

    def change(moment: str, operation: str, resource: str) -> None:
        if (moment, operation, resource) == ("before", "put_object", f"{BUCKET}/{KEYS}"):
            issuer.oci.on_call = None
            issuer.put(KEYS, b'{"keys": []}')

    issuer.oci.on_call = change
    refused(issuer.run(), 1, "another writer")
    assert issuer.read(KEYS) == {"keys": []}


def test_a_bucket_that_is_not_public_is_told_with_the_command(issuer: Issuer) -> None:
    issuer.oci.storage.set_public_access(BUCKET, "NoPublicAccess")
    refused(issuer.run(), 3, "--public-access-type ObjectReadWithoutList")
    issuer.oci.storage.set_public_access(BUCKET, "ObjectReadWithoutList")
    assert issuer.run().exit_code == 0


def test_what_a_plan_says_that_does_not_do_is_told_and_nothing_is_written(issuer: Issuer) -> None:
    elsewhere = "https://objectstorage.us-langley-1.oraclegovcloud.com/n/ns/b/b/o"
    issuer.plan(issuer.version, issuer=elsewhere)
    refused(issuer.run(), 2, "commercial realm")
    assert not issuer.oci.calls.records
    issuer.plan("ocid1.keyversion.oc1.eu.other")
    refused(issuer.run(), 1, "runners.oci.federation.key.version")
    issuer.plan(issuer.version)
    issuer.key.versions[0].state = "DISABLED"
    refused(issuer.run(), 1, "runners.oci.federation.key.version")
    assert issuer.written == []
    document = json.loads(issuer.file.read_text())
    document["runners"]["oci"] = {"aws_key_secret": plans.AWS_KEY_SECRET}
    issuer.file.write_text(json.dumps(document))
    refused(issuer.run(), 2, "no runners.oci.federation")


@pytest.mark.parametrize("permission", [r for r in RIGHTS if r != "OBJECT_READ"])  # Everyone may read.
def test_each_permission_that_the_page_lists_is_needed(issuer: Issuer, permission: str) -> None:
    issuer.oci.identity.forbid("deployer", permission)
    codes = {issuer.run().exit_code}
    issuer.put(KEYS, b'{"keys": []}')
    codes.add(issuer.run().exit_code)
    assert 3 in codes
