"""`lockstep secrets create` on Vault: the slots of the rings, what is in the way, throttling and lost replies."""

import base64
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.model import Engine
from lockstep.stores.contents import decode_app_user
from sandbox import plans
from sandbox.estate import environment
from sandbox.oci import OciSandbox, write_config_file
from tests.contract.test_calls_of_commands import listed_in_oci
from tests.support.settling import settled

ROOT = Path(__file__).parents[2]
TAGS = {"lockstep-stack": "lockstep", "team": "data"}
KEY = "ocid1.key.oc1.eu.of-terraform"


@dataclass
class Rings:
    """A tenancy with an empty compartment for rings, and the command in it."""

    oci: OciSandbox
    folder: Path

    def plan(self, *ids: str, slots: int = 4) -> None:
        """The plan has these credentials."""
        names = plans.OciNames(
            compartment_id=self.oci.compartment_id,
            own_compartment_id=self.oci.own_compartment_id,
            vault_id=self.oci.vault_id,
            slots=slots,
        )
        credentials = [
            plans.credential(i, "orders", username=f"u{n}", secrets=plans.own_secrets(i))
            for n, i in enumerate(ids)
        ]
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, tls={})], credentials, oci=names
        )
        (self.folder / "lockstep.yaml").write_text(json.dumps(document))

    def output(self, **changes: object) -> None:
        """What Terraform says."""
        given = {
            "compartment_id": self.oci.compartment_id,
            "vault_id": self.oci.vault_id,
            "key_id": KEY,
            "freeform_tags": TAGS,
            "defined_tags": None,
            **changes,
        }
        (self.folder / "secrets.json").write_text(json.dumps(given))

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of the command."""
        config = write_config_file(self.folder, "administrator", self.oci.config())
        return {"LOCKSTEP_OCI_ENDPOINT": self.oci.endpoint, "OCI_CONFIG_FILE": str(config)}

    def words(self, *words: str) -> list[str]:
        plan, output = self.folder / "lockstep.yaml", self.folder / "secrets.json"
        base = [
            "secrets",
            "create",
            "-p",
            str(plan),
            "--cloud",
            "oci",
            "--terraform",
            str(output),
            "--rate",
            "50",
        ]
        return [*base, *words]

    def run(self, *words: str) -> Result:
        """Run the command."""
        self.oci.calls.clear()
        with environment(self.variables):
            return CliRunner().invoke(app, self.words(*words))

    def done(self, *words: str) -> dict[str, int]:
        """Run the command, which succeeds; its counts."""
        shown = self.run("--json", *words)
        assert shown.exit_code == 0, shown.output
        [cloud] = json.loads(shown.stdout)["clouds"]
        assert cloud["cloud"] == "oci"
        return {name: count for name, count in cloud["counts"].items() if count}

    @property
    def calls(self) -> Counter[str]:
        """What the last command has asked."""
        return Counter(record.operation for record in self.oci.calls.records)

    @property
    def vaults(self) -> Any:  # noqa: ANN401 - the SDK ships no types
        return self.oci.client(oci.vault.VaultsClient)

    def slots(self, compartment: str | None = None) -> dict[str, Any]:
        """The secrets of a compartment, by name."""
        listed = oci.pagination.list_call_get_all_results(
            self.vaults.list_secrets, compartment or self.oci.compartment_id
        ).data
        return {secret.secret_name: secret for secret in listed}

    def content(self, name: str) -> str:
        client: Any = self.oci.client(oci.secrets.SecretsClient)
        bundle = client.get_secret_bundle(self.slots()[name].id).data
        return base64.b64decode(bundle.secret_bundle_content.content).decode()

    def make(self, name: str, compartment: str) -> str:
        """Make a secret; its OCID."""
        content = oci.vault.models.Base64SecretContentDetails(content=base64.b64encode(b"in use").decode())
        details = oci.vault.models.CreateSecretDetails(
            compartment_id=compartment,
            vault_id=self.oci.vault_id,
            key_id=KEY,
            secret_name=name,
            secret_content=content,
        )
        ocid: str = self.vaults.create_secret(details).data.id
        return ocid


def slots_of(*ids: str, slots: int = 4) -> set[str]:
    names = (name for i in ids for name in (i, f"{i}-connection_blob"))
    return {f"{name}.{number}" for name in names for number in range(slots)}


@pytest.fixture(name="rings")
def _rings(tmp_path: Path) -> Iterator[Rings]:
    with OciSandbox() as cloud:
        found = Rings(cloud, tmp_path)
        found.plan("a", "b")
        found.output()
        yield found


def test_each_slot_has_key_tags_and_a_placeholder(rings: Rings) -> None:
    assert rings.done() == {"made": 16}
    slots = rings.slots()
    assert slots.keys() == slots_of("a", "b")
    for name, slot in slots.items():
        assert (slot.key_id, slot.vault_id, slot.freeform_tags) == (KEY, rings.oci.vault_id, TAGS)
        assert slot.description == "A slot of a ring. Lockstep rotates it."
        assert decode_app_user(rings.content(name), store="oci", secret=name) == (None, 0)


def test_a_second_run_changes_nothing_and_lists_both_compartments_once(rings: Rings) -> None:
    rings.run()
    shown = rings.run()
    assert (shown.exit_code, shown.stdout) == (
        0,
        "oci: 16 secrets: 16 there already, 0 made, 0 tagged, 0 in the way; nothing was changed\n",
    )
    assert rings.calls == {"list_secrets": 2}


def test_a_dry_run_makes_nothing(rings: Rings) -> None:
    shown = rings.run("--dry-run")
    assert (shown.exit_code, "16 to make" in shown.stdout) == (0, True)
    assert rings.slots() == {}


def test_growth_makes_what_is_new(rings: Rings) -> None:
    rings.run()
    before = {name: slot.id for name, slot in rings.slots().items()}
    rings.plan("b", "c", slots=5)
    assert rings.done("--only", "c") == {"made": 10}
    assert rings.done() == {"made": 2, "there": 18}
    after = {name: slot.id for name, slot in rings.slots().items()}
    assert after.keys() == slots_of("a") | slots_of("b", "c", slots=5)
    assert before.items() <= after.items()


def test_what_exists_keeps_its_content_and_tags(rings: Rings) -> None:
    rings.make("a.0", rings.oci.compartment_id)
    assert rings.done() == {"made": 15, "there": 1}
    assert (rings.content("a.0"), rings.slots()["a.0"].freeform_tags) == ("in use", {})


def test_one_that_is_to_be_deleted_is_refused_with_its_command(rings: Rings) -> None:
    ocid = rings.make("a.0", rings.oci.compartment_id)
    at = rings.oci.clock.now() + timedelta(days=7)
    rings.vaults.schedule_secret_deletion(
        ocid, oci.vault.models.ScheduleSecretDeletionDetails(time_of_deletion=at)
    )
    shown = rings.run()
    assert shown.exit_code == 1
    region = plans.OCI_REGION
    assert (
        f"    oci vault secret cancel-secret-deletion --secret-id {ocid} --region {region}\n" in shown.stdout
    )
    assert "15 made, 0 tagged, 1 in the way" in shown.stdout
    assert rings.slots()["a.0"].lifecycle_state == "PENDING_DELETION"
    rings.vaults.cancel_secret_deletion(ocid)
    assert rings.done() == {"there": 16}


def test_one_in_another_compartment_is_refused(rings: Rings) -> None:
    own = rings.make("a.0", rings.oci.own_compartment_id)
    rings.make("a.1", "ocid1.compartment.oc1..third")
    shown = rings.run()
    assert shown.exit_code == 1
    assert f"change-compartment --secret-id {own} --compartment-id {rings.oci.compartment_id}" in shown.stdout
    assert "a.1: it is refused as a name is that is taken" in shown.stderr
    assert "oci search resource structured-search" in shown.stdout
    assert rings.slots().keys() == slots_of("a", "b") - {"a.0", "a.1"}


def test_throttling_and_lost_replies_are_survived(rings: Rings) -> None:
    rings.oci.faults.refuse("create_secret", status=429, code="TooManyRequests", times=3)
    rings.oci.faults.drop_reply("create_secret", times=2)
    found = rings.done()
    assert sum(found.values()) == 16
    assert found["there"] == 2
    assert rings.slots().keys() == slots_of("a", "b")


def test_what_is_not_allowed_ends_it(rings: Rings) -> None:
    rings.oci.faults.refuse("create_secret", status=404, code="NotAuthorizedOrNotFound", times=None)
    shown = rings.run()
    assert (shown.exit_code, "StoreAccessDeniedError" in shown.stderr) == (3, True)
    assert rings.slots() == {}


def test_a_run_that_is_killed_is_taken_up_by_the_next(rings: Rings) -> None:
    ids = [f"c{n}" for n in range(8)]
    rings.plan(*ids)
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "lockstep", *rings.words()],
        cwd=ROOT,
        env={**rings.variables, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while rings.calls["create_secret"] < 10 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    finally:
        process.kill()
    made = len(settled(lambda: sorted(rings.slots())))  # What it has sent before its end is still served.
    assert 10 <= made < 64
    assert rings.done() == {"made": 64 - made, "there": made}
    assert rings.slots().keys() == slots_of(*ids)


def as_person(rings: Rings, name: str, ring: set[str], own: set[str]) -> int:
    """The exit code of the command as an identity that has these permissions."""
    rings.oci.identity.permit(name, *own, compartment=rings.oci.own_compartment_id)
    key = rings.oci.new_api_key(name, *ring, compartment=rings.oci.compartment_id)
    variables = {**rings.variables, "OCI_CONFIG_FILE": str(write_config_file(rings.folder, name, key))}
    with environment(variables):
        return CliRunner().invoke(app, rings.words()).exit_code


def test_a_person_needs_what_the_page_lists_and_nothing_else(rings: Rings) -> None:
    listed = listed_in_oci("secrets create")
    ring, own = listed["the rings' compartment"], listed["Lockstep's own compartment"]
    assert len(ring) == 5
    for lacking in ring:
        assert as_person(rings, f"without-{lacking.lower()}", ring - {lacking}, own) == 3, lacking
    assert as_person(rings, "without-own", ring, set()) == 3
    assert rings.slots() == {}
    assert as_person(rings, "person", ring, own) == 0
    assert rings.slots().keys() == slots_of("a", "b")


def test_without_the_output_of_terraform_it_says_how_to_get_it(rings: Rings) -> None:
    with environment(rings.variables):
        plan = str(rings.folder / "lockstep.yaml")
        shown = CliRunner().invoke(app, ["secrets", "create", "-p", plan, "--cloud", "oci"])
    assert (shown.exit_code, "terraform -chdir=oci_fn/terraform output -json secrets" in shown.stderr) == (
        2,
        True,
    )
    rings.output(vault_id="ocid1.vault.oc1.eu.other")
    shown = rings.run()
    assert (shown.exit_code, "of another plan: its vault_id" in shown.stderr) == (2, True)
    (rings.folder / "secrets.json").write_text("{}")
    assert (rings.run().exit_code, rings.slots()) == (2, {})


def test_a_plan_that_does_not_name_the_vault_yet_is_told_to(rings: Rings) -> None:
    """The first deployment makes the vault, and the plan names it after that."""
    file = rings.folder / "lockstep.yaml"
    file.write_text(file.read_text().replace(rings.oci.vault_id, "ocid1.vault.oc1..example"))
    shown = rings.run()
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "vault_id: ocid1.vault.oc1..example is an example" in " ".join(shown.stderr.split())
    assert rings.slots() == {}
