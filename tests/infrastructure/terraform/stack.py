"""Lockstep's Terraform configuration, applied by the real Terraform to a tenancy that is a file."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from lockstep.model import Engine
from sandbox import plans

ROOT = Path(__file__).resolve().parents[3]
CONFIGURATION = ROOT / "oci_fn/terraform"
TOOLS = ROOT / ".cache/terraform-tools/bin"
IMAGE = "fra.ocir.io/tenant/lockstep:1.0.0"
PLAN_DIGEST = "0123456789abcdef" * 4

needs_tools = pytest.mark.skipif(
    not (TOOLS / "python").exists(), reason="`make terraform-tools` makes the venv that has Terraform"
)

Document = dict[str, Any]
Command = tuple[str, Any]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The resources and outputs after an apply."""

    resources: tuple[Document, ...]
    outputs: Mapping[str, Any]

    def all(self, kind: str) -> dict[str, Document]:
        """The values of the resources of a type, by address without module: `slot["multi-cloud.app_user.0"]`."""
        found = [r for r in self.resources if r["type"] == kind and r["mode"] == "managed"]
        return {r["address"].rpartition(f"{kind}.")[2]: r["values"] for r in found}

    @property
    def secrets(self) -> dict[str, Document]:
        """The secrets that Terraform manages, by address."""
        return self.all("oci_vault_secret")

    def one(self, kind: str) -> Document:
        """The values of the only resource of a type."""
        (values,) = self.all(kind).values()
        return values


class Stack:
    """The configuration with a plan and its own state.

    Args:
        root: A folder that has the configuration at the repository's path.
        plan: The plan as a document.
        tenancy: The file of the tenancy; by default one of its own.
    """

    def __init__(self, root: Path, plan: Document, tenancy: Path | None = None) -> None:
        self._root = root
        self.folder = root / "oci_fn/terraform"
        self.plan = plan
        self.tenancy = tenancy or self.folder / "tenancy.json"

    @classmethod
    def new(cls, root: Path, plan: Document, tenancy: Path | None = None) -> Self:
        """A new stack in an empty folder, after `terraform init`."""
        ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*")
        shutil.copytree(CONFIGURATION, root / "oci_fn/terraform", ignore=ignored)
        stack = cls(root, plan, tenancy)
        succeeded(stack.run(("init", None)))
        return stack

    def copy(self, root: Path) -> "Stack":
        """A copy with the same state, in a copy of the tenancy."""
        shutil.copytree(self._root, root, dirs_exist_ok=True, symlinks=True)
        return Stack(root, deepcopy(self.plan))

    def run(self, *commands: Command, **variables: object) -> list[Document]:
        """Run commands of the tool in order."""
        (self._root / "lockstep.yaml").write_text(json.dumps(self.plan))
        return run_tool(self.folder, *commands, tenancy=self.tenancy, **variables)

    def apply(self, **variables: object) -> Deployment:
        """Apply, and read the state."""
        results = self.run(("apply", None), ("show", None), **variables)
        succeeded(results)
        return _deployment(results[-1]["value"]["values"])

    def deploy(self, **variables: object) -> Deployment:
        """Deploy as an operator does: first without an image, then with what was made in the plan and an image."""
        self.name_made(self.apply(**variables).outputs)
        return self.apply(**with_image(**variables))

    def name_made(self, outputs: Mapping[str, str]) -> None:
        """Write the OCIDs into the plan that Terraform prints for it."""
        self.store.update({name: outputs[name] for name in ("vault_id", "own_compartment_id")})

    @property
    def store(self) -> Document:
        """The vault's section of the plan."""
        found: Document
        (found,) = [store for store in self.plan["stores"] if store["kind"] == "oci-vault"]
        return found


def with_image(**more: object) -> Document:
    """The variables of a deployment with a runner."""
    subnets = ["ocid1.subnet.oc1.eu-frankfurt-1.aaaa"]
    return {"image": IMAGE, "subnet_ids": subnets, "plan_digest": PLAN_DIGEST, **more}


def run_tool(folder: Path, *commands: Command, tenancy: Path | None = None, **variables: object) -> list[Any]:
    """Run the tool; return the results of its commands."""
    answer = folder / "answer.json"
    asked = {
        "folder": str(folder),
        "answer": str(answer),
        "tenancy": str(tenancy or folder / "tenancy.json"),
        "variables": {"tenancy_ocid": "ocid1.tenancy.oc1..aaaa", "identity_delay": "0s", **variables},
        "commands": commands,
    }
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
    results: list[Any] = json.loads(answer.read_text())
    return results


def succeeded(results: list[Document]) -> None:
    """Check that no command failed."""
    assert [r["code"] for r in results] == [0] * len(results), "\n".join(messages(results))


def messages(results: list[Document]) -> list[str]:
    """Terraform's error messages."""
    return [m for r in results for m in [*_diagnostics(r["value"]), r["error"]] if m]


def _diagnostics(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    if isinstance(value, str):  # `init` answers with text.
        return
    for line in value if isinstance(value, list) else value.get("diagnostics", []) if value else []:
        diagnostic = line.get("diagnostic", line)
        if diagnostic.get("severity") == "error":
            yield f"{diagnostic['summary']}: {diagnostic['detail']}"


def _deployment(values: Document) -> Deployment:
    modules = [values["root_module"], *values["root_module"].get("child_modules", [])]
    return Deployment(
        resources=tuple(r for m in modules for r in m.get("resources", [])),
        outputs={name: output["value"] for name, output in values["outputs"].items()},
    )


def plan_document(**changes: object) -> Document:
    """A plan with both clouds, two credentials and two databases."""
    names = ("orders", "reports")
    document = plans.plan_document(
        [plans.database(name, Engine.MYSQL, tls={}) for name in names],
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
