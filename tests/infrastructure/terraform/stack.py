"""Lockstep's Terraform configuration with a plan and variables, evaluated by the real Terraform without a provider."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lockstep.operate.secrets import slots_in_oci
from lockstep.plan.file import parse_plan
from lockstep.plan.stores import OciVault
from lockstep.protocol.model import Engine
from sandbox import plans
from tests.infrastructure.terraform import plain

ROOT = Path(__file__).resolve().parents[3]
CONFIGURATION = ROOT / "oci_fn/terraform"
TOOLS = ROOT / ".cache/terraform-tools/bin"
IMAGE = "fra.ocir.io/tenant/lockstep:1.0.0"
PLAN_DIGEST = "0123456789abcdef" * 4

needs_tools = pytest.mark.skipif(
    not (TOOLS / "python").exists(), reason="`make terraform-tools` makes the venv that has Terraform"
)

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What would be made, and the outputs."""

    resources: Mapping[str, Document]
    """The values by address without module: `oci_vault_secret.mac["lockstep.mac"]`."""
    outputs: Mapping[str, Any]

    def all(self, kind: str) -> dict[str, Document]:
        """The values of the resources of a type, by name: `mac["lockstep.mac"]`."""
        return {
            address.removeprefix(f"{kind}."): values
            for address, values in self.resources.items()
            if address.startswith(f"{kind}.")
        }

    @property
    def kinds(self) -> set[str]:
        """The types of what is made."""
        return {address.partition(".")[0] for address in self.resources}

    @property
    def secrets(self) -> dict[str, Document]:
        """The secrets that Terraform makes, by name."""
        return self.all("oci_vault_secret")

    def one(self, kind: str) -> Document:
        """The values of the only resource of a type."""
        (values,) = self.all(kind).values()
        return values


@dataclass(kw_only=True)
class Stack:
    """The configuration with a plan.

    Attributes:
        plan: The plan as a document.
        there: What data sources find, by type and name.
    """

    plan: Document
    there: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> "Stack":
        """One whose plan can be changed."""
        return deepcopy(self)

    def apply(self, **variables: object) -> Deployment:
        """What it comes to."""
        done = self._outputs(variables)
        assert done["code"] == 0, _messages(done)
        outputs = {name: output["value"] for name, output in done["value"].items()}
        outputs = {name: value for name, value in outputs.items() if value is not None}
        return Deployment(resources=dict(_resources(outputs.pop(plain.MADE))), outputs=outputs)

    def refused(self, **variables: object) -> str:
        """What Terraform says against it, in one line."""
        done = self._outputs(variables)
        assert done["code"] != 0, "it is not refused"
        return _messages(done)

    def deploy(self, **variables: object) -> Deployment:
        """Deploy as an operator does: first without an image, then with what was made in the plan and an image."""
        first = self.apply(**variables).outputs
        self.name_made(first)
        self.create_slots(first["secrets"])
        return self.apply(**with_image(**variables))

    def create_slots(self, terms: Mapping[str, str]) -> None:
        """Let the plan's slots be there, as after `lockstep secrets create` with the output `secrets`."""
        plan = parse_plan(json.dumps(self.plan), base=Path())
        vault = plan.store(OciVault)
        assert vault
        found = [
            {
                "secret_name": name,
                "vault_id": terms["vault_id"],
                "state": "ACTIVE",
                "id": f"ocid1.vaultsecret.oc1.eu-frankfurt-1.{name}",
            }
            for name in slots_in_oci(plan)
        ]
        self.there["oci_vault_secrets.rings"] = {"secrets": found}

    def name_made(self, outputs: Mapping[str, str]) -> None:
        """Write the OCIDs into the plan that Terraform prints for it."""
        self.store.update({name: outputs[name] for name in ("vault_id", "own_compartment_id")})

    @property
    def store(self) -> Document:
        """The vault's section of the plan."""
        found: Document
        (found,) = [store for store in self.plan["stores"] if store["kind"] == "oci-vault"]
        return found

    def _outputs(self, variables: Mapping[str, object]) -> Document:
        folder = Path(_folder().name)
        plain.write(CONFIGURATION, folder, self.there)
        (folder / "lockstep.yaml").write_text(json.dumps(self.plan))
        given = {"tenancy_ocid": "ocid1.tenancy.oc1..aaaa", "plan_file": "lockstep.yaml", **variables}
        (folder / "test.auto.tfvars.json").write_text(json.dumps(given))
        done: Document = run_tool("outputs", folder=folder)
        return done


@cache
def _folder() -> TemporaryDirectory[str]:
    """Where this process runs Terraform: its modules are initialized once."""
    return TemporaryDirectory()


def with_image(**more: object) -> Document:
    """The variables of a deployment with a runner."""
    subnets = ["ocid1.subnet.oc1.eu-frankfurt-1.aaaa"]
    return {"image": IMAGE, "subnet_ids": subnets, "plan_digest": PLAN_DIGEST, **more}


def run_tool(command: str, argument: object = None, *, folder: Path = CONFIGURATION) -> Any:  # noqa: ANN401 - any JSON
    """Run a command of the tool."""
    with TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        asked = {"folder": str(folder), "answer": str(answer), "command": command, "argument": argument}
        done = subprocess.run(  # noqa: S603 - our own program
            [str(TOOLS / "python"), "-m", "tests.infrastructure.terraform.tool"],
            cwd=ROOT,
            input=json.dumps(asked),
            text=True,
            check=False,
            capture_output=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(answer.read_text())


def _messages(result: Document) -> str:
    """Terraform's error messages, whose lines it wraps."""
    found = [*_diagnostics(result["value"]), result["error"] or ""]
    return " ".join("\n".join(found).split())


def _diagnostics(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    for line in value if isinstance(value, list) else (value or {}).get("diagnostics", []):
        diagnostic = line.get("diagnostic", line)
        if diagnostic.get("severity") == "error":
            yield f"{diagnostic['summary']}: {diagnostic['detail']}"


def _resources(made: Document) -> Iterator[tuple[str, Document]]:
    for address, found in made.items():
        if address.startswith("module."):
            yield from _resources(found or {})
        elif isinstance(found, list):
            yield from ((f"{address}[{index}]", one) for index, one in enumerate(found))
        elif all(isinstance(one, dict) for one in found.values()) and "id" not in found:
            yield from ((f'{address}["{key}"]', one) for key, one in found.items())
        else:
            yield address, found


def plan_document(**changes: object) -> Document:
    """A plan with both clouds, two credentials and two databases."""
    names = ("orders", "reports")
    document = plans.plan_document(
        [plans.database(name, Engine.MYSQL, tls="") for name in names],
        [
            plans.credential("multi-cloud/app_user", *names),
            plans.credential("batch", *names, username="batch"),
        ],
        oci=plans.OciNames(vault_id="ocid1.vault.oc1..not-known-yet"),
    )
    document["audit"]["aws"]["bucket"] = "lockstep-audit-aws"
    # In AWS it is a secret that RDS rotates, whose name Vault does not take.
    in_vault = document["databases"][1]["admin_secret"]
    document["databases"][1].update(admin_secret="rds!cluster-reports", oci_admin_secret=in_vault)
    return {**document, **changes}
