"""`lockstep identity publish` on Object Storage and Vault over HTTP, and over HTTPS as a verifier reads."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.federation import CACHE_CONTROL, CONFIGURATION, KEYS
from lockstep.protocol.model import Engine
from sandbox import plans
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from tests.contract.test_calls_of_commands import listed_in_oci

BUCKET = "lockstep-issuer"
RIGHTS = sorted(set().union(*listed_in_oci("identity publish").values()))
HOST = "https://objectstorage.eu-frankfurt-1.oraclecloud.com"


@dataclass
class Issuer:
    """A tenancy with a key and a public bucket, and the command in it."""

    oci: OciSandbox
    folder: Path
    config: dict[str, str]

    def __post_init__(self) -> None:
        self.key = self.oci.keys.new_key(self.oci.compartment_id, self.oci.vault_id, name="issuer")
        details = oci.object_storage.models.CreateBucketDetails(
            name=BUCKET,
            compartment_id=self.oci.own_compartment_id,
            public_access_type="ObjectReadWithoutList",
        )
        self.storage.create_bucket(self.oci.namespace, details)
        self.plan(self.version)

    @property
    def storage(self) -> Any:  # noqa: ANN401 - the SDK ships no types
        return self.oci.client(oci.object_storage.ObjectStorageClient)

    @property
    def url(self) -> str:
        return f"{HOST}/n/{self.oci.namespace}/b/{BUCKET}/o"

    @property
    def version(self) -> str:
        """The first version of the key."""
        return self.key.versions[0].ocid

    def plan(self, version: str, **federation: object) -> None:
        """The plan names this version."""
        names = plans.OciNames(vault_id=self.oci.vault_id, namespace=self.oci.namespace)
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, tls="")],
            [plans.credential("multi-cloud/app_user", "orders")],
            oci=names,
        )
        endpoint = "https://sandbox-crypto.kms.eu-frankfurt-1.oraclecloud.com"
        document["runners"]["oci"] = {
            "federation": {
                **plans.TO_AWS,
                "issuer": self.url,
                "key": {"id": self.key.ocid, "version": version, "endpoint": endpoint},
                **federation,
            }
        }
        (self.folder / "lockstep.yaml").write_text(json.dumps(document))

    def run(self, *words: str) -> Result:
        """Run the command."""
        self.oci.calls.clear()
        variables = {
            "LOCKSTEP_OCI_ENDPOINT": self.oci.endpoint,
            "OCI_CONFIG_FILE": str(write_config_file(self.folder, "deployer", self.config)),
        }
        with environment(variables):
            return CliRunner().invoke(
                app, ["identity", "publish", "-p", str(self.folder / "lockstep.yaml"), *words]
            )

    def done(self, *words: str) -> dict[str, Any]:
        """Run the command, which succeeds; its document."""
        shown = self.run("--json", *words)
        assert shown.exit_code == 0, shown.output
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

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

    @property
    def kids(self) -> list[str]:
        return [key["kid"] for key in self.read(KEYS)["keys"]]


@pytest.fixture(name="issuer")
def _issuer(tmp_path: Path) -> Iterator[Issuer]:
    """The command acts as a principal with the permissions that docs/iam-oci.md lists."""
    with OciSandbox() as found:
        config = found.new_api_key("deployer", *RIGHTS)
        yield Issuer(found, tmp_path, config)


def test_the_documents_are_published_in_order_and_then_left_alone(issuer: Issuer) -> None:
    dry = issuer.done("--dry-run")
    assert dry["written"] == [KEYS, CONFIGURATION]
    assert issuer.written == []
    shown = issuer.run()
    assert shown.exit_code == 0, shown.output
    assert issuer.written == [KEYS, CONFIGURATION]
    assert "read back as AWS reads them" in shown.stdout
    told = issuer.read(CONFIGURATION)
    assert told["issuer"] == issuer.url
    assert told["jwks_uri"] == f"{issuer.url}/{KEYS}"
    assert told["id_token_signing_alg_values_supported"] == ["RS256"]
    [key] = issuer.read(KEYS)["keys"]
    assert {name: key[name] for name in ("kty", "use", "alg", "kid")} == {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": issuer.version,
    }
    numbers = issuer.key.versions[0].public_key.public_numbers()
    assert [int.from_bytes(base64.urlsafe_b64decode(key[n] + "==")) for n in ("n", "e")] == [
        numbers.n,
        numbers.e,
    ]
    headers = issuer.storage.get_object(issuer.oci.namespace, BUCKET, KEYS).headers
    assert (headers["content-type"], headers["cache-control"]) == ("application/json", CACHE_CONTROL)
    again = issuer.run()
    assert again.exit_code == 0
    assert issuer.written == []
    assert "nothing to do" in again.stdout


def test_a_document_with_another_content_type_is_written_again(issuer: Issuer) -> None:
    issuer.done()
    issuer.put(KEYS, issuer.oci.names.fetch(f"{issuer.url}/{KEYS}"))
    assert issuer.done()["written"] == [KEYS]


def test_a_version_is_rotated_and_the_old_one_retired(issuer: Issuer) -> None:
    issuer.done()
    assert issuer.done("--rotate", "--dry-run")["next_version"] is None
    assert len(issuer.key.versions) == 1
    told = issuer.done("--rotate")
    new = told["next_version"]
    assert [version.ocid for version in issuer.key.versions] == [issuer.version, new]
    assert issuer.kids == [new, issuer.version]
    assert told["next"][0].startswith("wait 24 h")
    assert f"runners.oci.federation.key.version: {new}" in told["next"][1]
    assert "make deploy-oci" in told["next"][2]
    # Repeated, it goes on with the same one.
    assert issuer.done("--rotate")["next_version"] == new
    assert len(issuer.key.versions) == 2
    assert issuer.kids == [new, issuer.version]
    refused = issuer.run("--retire", issuer.version)
    assert refused.exit_code == 1
    assert "the plan names it" in refused.output
    issuer.plan(new)
    assert issuer.done()["next"] == [
        f"once no function signs with it for 1 h: lockstep identity publish --retire {issuer.version}"
    ]
    assert issuer.done("--retire", issuer.version)["dropped"] == [issuer.version]
    assert issuer.kids == [new]
    assert issuer.done()["trusted"] == [
        {"version": new, "made_at": issuer.done()["trusted"][0]["made_at"], "signs": True}
    ]


def test_the_next_version_is_not_taken_out_by_the_command_that_names_it_next(issuer: Issuer) -> None:
    issuer.done()
    new = issuer.done("--rotate")["next_version"]
    refused = issuer.run("--rotate", "--retire", new)
    assert (refused.exit_code, "sign next" in refused.output) == (1, True), refused.output
    assert issuer.kids == [new, issuer.version]
    # By itself it may be given up.
    assert issuer.done("--retire", new)["dropped"] == [new]


def test_a_bucket_of_another_realm_is_refused_with_the_reason(issuer: Issuer) -> None:
    address = "https://objectstorage.us-langley-1.oraclegovcloud.com/n/ns/b/b/o"
    issuer.plan(issuer.version, issuer=address)
    refused = issuer.run()
    assert (refused.exit_code, "commercial realm" in refused.output) == (2, True), refused.output
    assert not issuer.oci.calls.records


def test_a_version_that_is_being_made_is_waited_for_and_made_once(issuer: Issuer) -> None:
    issuer.oci.keys.creating_for = timedelta(seconds=1.5)
    told = issuer.done("--rotate")
    assert issuer.kids == [told["next_version"], issuer.version]
    issuer.plan(told["next_version"])
    issuer.oci.client(oci.key_management.KmsManagementClient).create_key_version(issuer.key.ocid)
    assert issuer.done("--rotate")["next_version"] == issuer.key.versions[2].ocid
    assert len(issuer.key.versions) == 3


def test_a_key_of_somebody_else_is_told_and_removed_by_order_alone(issuer: Issuer) -> None:
    issuer.done()
    keys = issuer.read(KEYS)
    keys["keys"].append({**keys["keys"][0], "kid": "mine"})
    issuer.put(KEYS, json.dumps(keys).encode())
    for words in ((), ("--dry-run",), ("--rotate",)):
        shown = issuer.run(*words)
        assert shown.exit_code == 1
        assert "mine" in shown.output
        assert "lockstep identity publish --replace" in shown.output
        assert issuer.written == []
    issuer.done("--replace")
    assert issuer.kids == [issuer.version]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (KEYS, b"<html>"),
        (KEYS, b'{"keys": [{"kty": "RSA"}]}'),
        (CONFIGURATION, b'{"issuer": "https://other.example.com"}'),
    ],
)
def test_a_document_of_another_issuer_is_not_written_over(issuer: Issuer, name: str, content: bytes) -> None:
    issuer.put(name, content)
    shown = issuer.run("--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["error"]["exit_code"] == 1
    assert issuer.written == []
    assert name in issuer.done("--replace")["written"]


def test_two_writers_do_not_write_over_each_other(issuer: Issuer) -> None:
    issuer.done()
    issuer.done("--rotate")
    issuer.plan(issuer.key.versions[1].ocid)

    def change(moment: str, operation: str, resource: str) -> None:
        if (moment, operation, resource) == ("before", "put_object", f"{BUCKET}/{KEYS}"):
            issuer.oci.on_call = None
            issuer.put(KEYS, b'{"keys": []}')

    issuer.oci.on_call = change
    shown = issuer.run("--retire", issuer.version)
    assert shown.exit_code == 1
    assert "another writer" in shown.output
    assert issuer.read(KEYS) == {"keys": []}


def test_a_bucket_that_is_not_public_is_told_with_the_command(issuer: Issuer) -> None:
    issuer.oci.storage.set_public_access(BUCKET, "NoPublicAccess")
    shown = issuer.run()
    assert shown.exit_code == 3
    assert "--public-access-type ObjectReadWithoutList" in shown.output
    issuer.oci.storage.set_public_access(BUCKET, "ObjectReadWithoutList")
    assert issuer.run().exit_code == 0


def test_an_address_of_the_customers_own_names_its_bucket(issuer: Issuer) -> None:
    issuer.plan(issuer.version, issuer="https://issuer.example.com")
    shown = issuer.run()
    assert shown.exit_code == 2
    assert "--bucket https://objectstorage." in shown.output
    assert issuer.done("--bucket", issuer.url, "--dry-run")["issuer"] == "https://issuer.example.com"


@pytest.mark.parametrize("state", ["DISABLED", None])
def test_a_version_that_does_not_sign_is_not_published(issuer: Issuer, state: str | None) -> None:
    if state:
        issuer.key.versions[0].state = "DISABLED"
    else:
        issuer.plan("ocid1.keyversion.oc1.eu.other")
    shown = issuer.run()
    assert shown.exit_code == 1
    assert "runners.oci.federation.key.version" in shown.output
    assert issuer.written == []


def test_without_federation_there_is_no_issuer(issuer: Issuer) -> None:
    file = issuer.folder / "lockstep.yaml"
    document = json.loads(file.read_text())
    document["runners"]["oci"] = {"aws_key_secret": plans.AWS_KEY_SECRET}
    file.write_text(json.dumps(document))
    shown = issuer.run()
    assert shown.exit_code == 2
    assert "no runners.oci.federation" in shown.output


@pytest.mark.parametrize("permission", [r for r in RIGHTS if r != "OBJECT_READ"])  # Everyone may read.
def test_each_permission_that_the_page_lists_is_needed(issuer: Issuer, permission: str) -> None:
    issuer.oci.identity.forbid("deployer", permission)
    codes = {issuer.run("--rotate").exit_code}
    issuer.put(KEYS, b'{"keys": []}')
    codes.add(issuer.run().exit_code)
    assert 3 in codes
