"""`lockstep secrets create` and `lockstep secrets tag`: what they make, leave and refuse in both clouds.

What is decided of one secret is in tests/unit/test_provision.py.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.cli.secrets import SECRETS_OCI, make_missing
from lockstep.operate.access import operator
from lockstep.plan.file import load_plan
from lockstep.protocol.errors import StoreAccessDeniedError
from lockstep.protocol.model import Engine
from lockstep.protocol.names import SECRET_TAG, STACK_TAG
from lockstep.protocol.ring import SLOTS
from lockstep.runtime.system import SystemClock
from lockstep.stores.contents import decode_app_user
from sandbox import plans
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from sandbox.oci_resources import create_secret, names_in
from tests.contract.clouds import OciConsole
from tests.contract.test_calls_of_commands import listed_in_oci

WRITES = {"CreateSecret", "TagResource", "PutSecretValue", "UpdateSecret", "UntagResource", "DeleteSecret"}
ADMIN = plans.admin_secret("orders")
PEOPLE = [{"Key": "team", "Value": "theirs"}]


def counts(shown: Result) -> dict[str, int]:
    """What a command, which succeeds, says that it did."""
    assert shown.exit_code == 0, shown.output
    [cloud] = json.loads(shown.stdout)["clouds"]
    return {name: count for name, count in cloud["counts"].items() if count}


@dataclass
class Side:
    """A cloud, and the command in it.

    Attributes:
        variables: The environment of the command.
        create: What `secrets create` is called with.
    """

    folder: Path
    variables: Mapping[str, str]
    create: Sequence[str] = ("create",)
    names: plans.OciNames | None = None

    def __post_init__(self) -> None:
        self.file = self.folder / "lockstep.yaml"
        self.plan("a", "b")

    def plan(self, *ids: str) -> None:
        """Write a plan with these credentials."""
        credentials = [plans.credential(i, "orders", username=f"u{n}") for n, i in enumerate(ids)]
        databases = [plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")]
        self.file.write_text(json.dumps(plans.plan_document(databases, credentials, oci=self.names)))

    def invoke(self, command: str, *words: str, **more: str) -> Result:
        with environment({**self.variables, **more}):
            return CliRunner().invoke(app, ["secrets", command, "-p", str(self.file), *words])

    def run(self, *words: str) -> Result:
        return self.invoke(*self.create, *words)

    def done(self, *words: str) -> dict[str, int]:
        return counts(self.run("--json", *words))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockstep.cli.secrets.OCI_RATE", 50.0)


# AWS


def secrets_of(*ids: str) -> list[str]:
    return [name for i in ids for name in (i, f"{i}.connection")]


class Account(Side):
    """An account with a stack."""

    aws: AwsSandbox
    key: str
    calls: Counter[str]

    def make(self, name: str, **more: object) -> None:
        """As a person does."""
        self.owner.create_secret(Name=name, SecretString="in use", **more)

    @property
    def owner(self) -> Any:  # noqa: ANN401 - as `aws_client`
        return self.aws.client("secretsmanager")

    def values(self) -> dict[str, str]:
        """The secrets that are there."""
        names = sorted(s["Name"] for s in self.owner.list_secrets()["SecretList"])
        return {name: self.owner.get_secret_value(SecretId=name)["SecretString"] for name in names}

    def described(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.owner.describe_secret(SecretId=name)
        return found

    def tags(self, name: str) -> dict[str, str]:
        return {t["Key"]: t["Value"] for t in self.described(name).get("Tags", [])}


@pytest.fixture(name="account")
def _account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.chdir(tmp_path)
    with AwsSandbox() as aws:
        found = Account(tmp_path, aws.environment())
        found.aws, found.calls = aws, Counter()
        found.key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
        context = {"stack": "lockstep", "tags": {"team": "data"}, "adopt": {"encryption_key": found.key}}
        (tmp_path / "cdk.json").write_text(json.dumps({"context": context}))
        aws.on_request = lambda _, operation: found.calls.update([operation])
        yield found


def test_each_secret_has_key_tags_and_placeholder_and_what_is_there_or_has_left_stays(
    account: Account,
) -> None:
    tags = [{"Key": STACK_TAG, "Value": "lockstep"}, {"Key": "own", "Value": "kept"}]
    account.make("a", KmsKeyId=account.key, Tags=tags)
    account.calls.clear()
    assert account.done() == {"made": 3, "tagged": 1}
    assert {c: n for c, n in account.calls.items() if c in WRITES} == {"CreateSecret": 3, "TagResource": 1}
    assert account.tags("a") == {"own": "kept", "team": "data", STACK_TAG: "lockstep", SECRET_TAG: "app_user"}
    before = account.values()
    assert (list(before), before.pop("a")) == (secrets_of("a", "b"), "in use")
    for name, text in before.items():
        kind = "connection_blob" if name.endswith(".connection") else "app_user"
        assert account.tags(name) == {"team": "data", STACK_TAG: "lockstep", SECRET_TAG: kind}
        assert account.described(name)["KmsKeyId"] == account.key
        assert json.loads(text).keys() == {"placeholder"}
    account.calls.clear()
    shown = account.run()
    assert (shown.exit_code, shown.stdout) == (0, "aws: 4 secrets: 4 there\n")
    assert account.calls == {"DescribeSecret": 4}
    account.plan("b", "c", "d")
    shown = account.run("--dry-run")
    assert "to be made: c, c.connection, d, d.connection\n" in shown.stdout
    assert list(account.values()) == secrets_of("a", "b")
    assert account.done("c", "b") == {"made": 2, "there": 2}
    assert account.run("x").exit_code == 2
    assert account.done() == {"made": 2, "there": 4}
    found = account.values()
    assert list(found) == secrets_of("a", "b", "c", "d")
    assert before.items() <= found.items()


def test_what_is_in_the_way_is_told_with_its_command_and_the_rest_is_made(account: Account) -> None:
    account.make("a", Tags=PEOPLE)
    account.make("b")
    account.owner.delete_secret(SecretId="b", RecoveryWindowInDays=7)
    before = [account.described(name)["VersionIdsToStages"] for name in ("a", "b")]
    shown = account.run()
    assert shown.exit_code == 1
    for command in (
        "lockstep secrets tag --stack lockstep --yes",
        f"aws secretsmanager restore-secret --secret-id b --region {plans.AWS_REGION}",
    ):
        assert f"    {command}\n" in shown.stdout
    assert "2 in the way, 2 made" in shown.stdout
    assert [account.described(name)["VersionIdsToStages"] for name in ("a", "b")] == before
    assert account.tags("a") == {"team": "theirs"}
    # Without a key of the plan's stack nothing is made.
    (account.folder / "cdk.json").write_text(json.dumps({"context": {}}))
    account.plan("c")
    shown = account.run()
    assert (shown.exit_code, "make deploy-aws" in shown.stderr) == (1, True)
    assert "c" not in account.values()


def test_admins_are_tagged_with_consent_alone_and_nothing_is_made(account: Account) -> None:
    shown = account.invoke("tag", "--yes")
    assert (shown.exit_code, "create it" in shown.stderr) == (1, True)
    account.make(ADMIN, Tags=PEOPLE)
    shown = account.invoke("tag")
    assert shown.exit_code == 1
    for told in (f"to be tagged: {ADMIN} {STACK_TAG}=lockstep {SECRET_TAG}=admin", "--yes"):
        assert told in shown.stdout
    assert account.tags(ADMIN) == {"team": "theirs"}
    shown = account.invoke("tag", "--yes")
    assert shown.exit_code == 0, shown.stdout
    mine = {"team": "theirs", STACK_TAG: "lockstep", SECRET_TAG: "admin"}
    assert account.tags(ADMIN) == mine
    assert [*account.values()] == [ADMIN]
    assert "yet to be made, by `lockstep secrets create`" in shown.stdout
    assert counts(account.invoke("tag", "--json")) == {"there": 1, "yet to be made": 4}
    # That of another stack is not taken.
    shown = account.invoke("tag", "--yes", "--stack", "other")
    assert (shown.exit_code, "'lockstep', not 'other'" in shown.stderr) == (1, True)
    assert account.tags(ADMIN) == mine
    # And whoever lacks a right is told so once.
    account.aws.guard.denied |= {"secretsmanager:CreateSecret", "secretsmanager:TagResource"}
    shown = account.run()
    assert (shown.exit_code, "AwsActionDeniedError" in shown.stderr) == (3, True)
    assert [*account.values()] == [ADMIN]


# OCI

TAGS = {"lockstep-stack": "lockstep", "team": "data"}
KEY = "ocid1.key.oc1.eu.of-terraform"


class Rings(Side):
    """A tenancy with an empty compartment for rings."""

    oci: OciSandbox

    def slots(self) -> dict[str, Any]:
        """The secrets of the rings' compartment, by name."""
        listing = OciConsole(self.oci).vaults.list_secrets
        listed = oci.pagination.list_call_get_all_results(listing, self.oci.compartment_id).data
        return {secret.secret_name: secret for secret in listed}

    def content(self, name: str) -> str:
        return OciConsole(self.oci).current(self.slots()[name].id)[1]


def slots_of(*ids: str) -> set[str]:
    return {f"{name}.{number}" for name in secrets_of(*ids) for number in range(SLOTS)}


@pytest.fixture(name="rings")
def _rings(tmp_path: Path) -> Iterator[Rings]:
    with OciSandbox() as cloud:
        config = write_config_file(tmp_path, "administrator", cloud.config())
        variables = {"LOCKSTEP_OCI_ENDPOINT": cloud.endpoint, "OCI_CONFIG_FILE": str(config)}
        given = {"compartment_id": cloud.compartment_id, "vault_id": cloud.vault_id, "key_id": KEY}
        terraform = tmp_path / "secrets.json"
        terraform.write_text(json.dumps({**given, "freeform_tags": TAGS}))
        create = "create", "--cloud", "oci", "--terraform", str(terraform)
        found = Rings(tmp_path, variables, create, names_in(cloud))
        found.oci = cloud
        yield found


def test_each_slot_has_key_tags_and_placeholder_and_a_new_credential_its_slots(
    rings: Rings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Throttling and lost replies are survived."""
    create_secret(rings.oci, "b.0", b"in use")
    monkeypatch.setattr(SystemClock, "sleep", lambda _clock, seconds: time.sleep(min(seconds, 0.05)))
    rings.oci.faults.refuse("create_secret", status=429, code="TooManyRequests", times=3)
    rings.oci.faults.drop_reply("create_secret", times=2)
    # Few are made one after the other, so both replies that are lost are of one slot.
    assert rings.done() == {"made": 14, "there": 2}
    slots = rings.slots()
    assert slots.keys() == slots_of("a", "b")
    assert (rings.content("b.0"), slots.pop("b.0").freeform_tags) == ("in use", {})
    for slot in slots.values():
        assert (slot.key_id, slot.vault_id, slot.freeform_tags) == (KEY, rings.oci.vault_id, TAGS)
    assert decode_app_user(rings.content("a.0"), store="oci", secret="a.0") == (None, 0)
    rings.oci.calls.clear()
    assert rings.done() == {"there": 16}
    assert Counter(record.operation for record in rings.oci.calls.records) == {"list_secrets": 2}
    before = {name: slot.id for name, slot in slots.items()}
    rings.plan("b", "c", "d")
    assert "16 to be made" in rings.run("--dry-run").stdout
    assert rings.done("c") == {"made": 8}
    assert rings.done() == {"made": 8, "there": 16}
    after = rings.slots()
    assert after.keys() == slots_of("a", "b", "c", "d")
    assert before.items() <= {name: slot.id for name, slot in after.items()}.items()


def test_import_makes_slots_where_a_deployment_has_left_what_terraform_says(
    rings: Rings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rings.folder)
    plan = load_plan(rings.file)
    with environment(rings.variables):
        with pytest.raises(StoreAccessDeniedError, match="no-terms"):
            make_missing(plan, operator(plan), plan.credentials[0], "oci")
        SECRETS_OCI.parent.mkdir()
        (rings.folder / "secrets.json").rename(SECRETS_OCI)
        assert set(make_missing(plan, operator(plan), plan.credentials[0], "oci")) == slots_of("a")
    assert {(slot.key_id, slot.freeform_tags["team"]) for slot in rings.slots().values()} == {(KEY, "data")}


def test_what_is_to_be_deleted_or_in_another_compartment_is_refused_with_its_command(rings: Rings) -> None:
    leaving = create_secret(rings.oci, "b.0", b"in use")
    OciConsole(rings.oci).remove(leaving)
    own = create_secret(rings.oci, "a.0", b"in use", compartment=rings.oci.own_compartment_id)
    create_secret(rings.oci, "a.1", b"in use", compartment="ocid1.compartment.oc1..third")
    shown = rings.run()
    assert shown.exit_code == 1
    for command in (
        f"    oci vault secret cancel-secret-deletion --secret-id {leaving} --region {plans.OCI_REGION}\n",
        f"change-compartment --secret-id {own} --compartment-id {rings.oci.compartment_id}",
        "structured-search --query-text \"query vaultsecret resources where displayName = 'a.1'\"",
        "3 in the way, 13 made",
    ):
        assert command in shown.stdout
    assert "a.1: it is refused as a name is that is taken" in shown.stderr
    assert rings.slots()["b.0"].lifecycle_state == "PENDING_DELETION"
    assert rings.slots().keys() == slots_of("a", "b") - {"a.0", "a.1"}


def test_a_person_needs_what_the_page_lists_and_nothing_else(rings: Rings) -> None:
    listed = listed_in_oci("secrets create")
    ring, own = listed["the rings' compartment"], listed["Lockstep's own compartment"]

    def as_person(name: str, ring: set[str], own: set[str]) -> int:
        rings.oci.identity.permit(name, *own, compartment=rings.oci.own_compartment_id)
        key = rings.oci.new_api_key(name, *ring, compartment=rings.oci.compartment_id)
        config = str(write_config_file(rings.folder, name, key))
        return rings.invoke(*rings.create, OCI_CONFIG_FILE=config).exit_code

    assert len(ring) == 5
    for lacking in ring:
        assert as_person(f"without-{lacking.lower()}", ring - {lacking}, own) == 3, lacking
    assert as_person("without-own", ring, set()) == 3
    assert rings.slots() == {}
    assert as_person("person", ring, own) == 0
    assert rings.slots().keys() == slots_of("a", "b")


def test_what_it_needs_of_terraform_and_of_the_plan_is_told(rings: Rings) -> None:
    shown = rings.invoke("create", "--cloud", "oci")
    told = "terraform -chdir=oci_fn/terraform output -json secrets"
    assert (shown.exit_code, told in shown.stderr) == (2, True)
    terraform = rings.folder / "secrets.json"
    terraform.write_text(terraform.read_text().replace(rings.oci.vault_id, "ocid1.vault.oc1.eu.other"))
    shown = rings.run()
    assert (shown.exit_code, "of another plan: its vault_id" in shown.stderr) == (2, True)
    # The first deployment makes the vault, and the plan names it after that.
    rings.file.write_text(rings.file.read_text().replace(rings.oci.vault_id, "ocid1.vault.oc1..example"))
    shown = rings.run()
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "vault_id: ocid1.vault.oc1..example is a placeholder" in " ".join(shown.stderr.split())
    assert rings.slots() == {}
