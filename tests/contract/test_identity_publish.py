"""`lockstep identity publish` on Object Storage and Vault over HTTP, and over HTTPS as a verifier reads."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from jwt.algorithms import RSAAlgorithm
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.federation import CACHE_CONTROL, CONFIGURATION, KEYS
from lockstep.protocol.model import Engine
from sandbox import plans
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from sandbox.oci_resources import create_issuer_bucket
from tests.contract.test_calls_of_commands import listed_in_oci

BUCKET = "lockstep-issuer"
RIGHTS = sorted(set().union(*listed_in_oci("identity publish").values()))


@dataclass
class Issuer:
    """A tenancy with a key and a public bucket, and the command in it."""

    oci: OciSandbox
    folder: Path
    config: dict[str, str]

    def __post_init__(self) -> None:
        self.file = self.folder / "lockstep.yaml"
        self.storage: Any = self.oci.client(oci.object_storage.ObjectStorageClient)
        self.key = self.oci.keys.new_key(self.oci.compartment_id, self.oci.vault_id, name="issuer")
        self.url = create_issuer_bucket(self.oci, BUCKET)
        self.version = self.key.versions[0].ocid
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
        variables = {
            "LOCKSTEP_OCI_ENDPOINT": self.oci.endpoint,
            "OCI_CONFIG_FILE": str(write_config_file(self.folder, "deployer", self.config)),
        }
        with environment(variables):
            return CliRunner().invoke(app, ["identity", "publish", "-p", str(self.file), *words])

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
    """The command acts as a principal with the permissions that docs/iam-oci.md lists."""
    with OciSandbox() as found:
        config = found.new_api_key("deployer", *RIGHTS)
        yield Issuer(found, tmp_path, config)


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
