"""Lockstep's Terraform configuration with a plan and variables, evaluated by the real Terraform without a provider."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lockstep.operate.secrets import slots_in_oci
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine
from sandbox import plans
from tests.infrastructure.terraform import plain
from tests.support.programs import ran

ROOT = Path(__file__).resolve().parents[3]
CONFIGURATION = ROOT / "oci_fn/terraform"
TOOLS = ROOT / ".cache/terraform-tools/bin"
IMAGE = "fra.ocir.io/tenant/lockstep:1.0.0"
PLAN_DIGEST = "0123456789abcdef" * 4
LOG, DIGESTS, ISSUER = "lockstep-audit", "lockstep-audit-digests", "lockstep-issuer"
"""Buckets."""
AWS, OCI, DIGEST, SCHEDULES = (
    *("lockstep-aws-runner", "lockstep-oci-runner", "lockstep-oci-digest"),
    "lockstep-standby-schedules",
)
"""Groups and dynamic groups."""
KEY_OF_AWS = {"oci_key_secret": "lockstep/oci-key"}
TO_OCI = {**plans.TO_OCI, "client_id": "lockstep_client"}
TOKENS = "https://01234567-89ab-cdef-0123-456789abcdef.tokens.sts.global.api.aws"
ROLES = {
    step: f"arn:aws:iam::123456789012:role/lockstep-{step.replace('_', '-')}-4FZ0"
    for step in ("generate", "apply_db", "update_secrets", "digest")
}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\nAQID\n-----END CERTIFICATE-----\n"
FROM_AWS: Mapping[str, Any] = {
    "aws_token_issuer": TOKENS,
    "aws_role_arns": ROLES,
    "aws_client_certificate": CERTIFICATE,
}
"""The variables that the stack in AWS gives."""
needs_tools = pytest.mark.skipif(
    not (TOOLS / "python").exists(), reason="`make terraform-tools` makes the venv that has Terraform"
)
Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a policy: a subject, its permissions, and the targets to which they are limited."""

    text: str = ""
    denies: bool = False
    subject: str
    permissions: frozenset[str]
    verb: str | None = None
    resource_type: str | None = None
    compartment: str
    targets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The conditions by variable, such as `target.secret.id`. Empty if there is no condition."""
    others: Mapping[str, str] = field(default_factory=dict)
    """The values that variables must not have."""
    about: Mapping[str, str] = field(default_factory=dict)
    """The conditions on who asks, such as `request.principal.name`."""

    def covers(self, permission: str, request: Mapping[str, Sequence[str]]) -> bool:
        """Whether the statement is about a request, for a permission.

        Args:
            permission: The permission that the request needs.
            request: The values of its variables; `subject` has the principal's groups. A condition on a variable that
                it lacks is false (Oracle's policy syntax, "Conditions").
        """
        return (
            permission in self.permissions
            and self.compartment in request["compartment"]
            and self.subject in {*request["subject"], "any-user"}
            and all(any(v in values for v in request.get(name, ())) for name, values in self.targets.items())
            and all(value in request.get(name, ()) for name, value in self.about.items())
            and all(request.get(name) and value not in request[name] for name, value in self.others.items())
        )


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

    @cached_property
    def policy(self) -> list[Statement]:
        """Every statement of every policy, parsed; invalid syntax fails."""
        return parsed_policy([s for p in self.all("oci_identity_policy").values() for s in p["statements"]])

    @property
    def groups(self) -> dict[str, str]:
        """The OCIDs of groups and dynamic groups, by name."""
        kinds = ("oci_identity_group", "oci_identity_dynamic_group")
        return {g["name"]: g["id"] for kind in kinds for g in self.all(kind).values()}

    def of(self, subject: str) -> list[Statement]:
        """The statements about a group or a dynamic group, by its name, or about a role in AWS, by its step."""
        if subject in ROLES:
            return [s for s in self.policy if s.about.get("request.principal.name") == ROLES[subject]]
        return [s for s in self.policy if s.subject == self.groups[subject]]

    def may(self, subject: str, compartment: str = "") -> set[str]:
        """All that they allow, in one compartment."""
        return set().union(*(s.permissions for s in self.of(subject) if compartment in ("", s.compartment)))


@dataclass(kw_only=True)
class Stack:
    """The configuration with a plan.

    Attributes:
        plan: The plan as a document.
        there: What data sources find, by type and name.
    """

    plan: Document
    there: dict[str, Any] = field(default_factory=dict)

    @property
    def parsed(self) -> Plan:
        """The plan as the code reads it."""
        return parse_plan(json.dumps(self.plan), base=Path())

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

    def create_slots(self, terms: Mapping[str, str]) -> None:
        """Let the plan's slots be there, as after `lockstep secrets create` with the output `secrets`."""
        common = {"vault_id": terms["vault_id"], "state": "ACTIVE"}
        found = [
            {**common, "secret_name": name, "id": f"ocid1.vaultsecret.oc1.eu-frankfurt-1.{name}"}
            for name in slots_in_oci(self.parsed)
        ]
        self.there["oci_vault_secrets.rings"] = {"secrets": found}

    def name_made(self, outputs: Mapping[str, Any]) -> None:
        """Write what Terraform prints for the plan into it, as an operator does."""
        self.store.update({name: outputs[name] for name in ("vault_id", "own_compartment_id")})
        if "runners_oci_federation" in outputs:
            self.plan["runners"]["oci"]["federation"] = outputs["runners_oci_federation"]

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
        done = ran(
            [str(TOOLS / "python"), "-m", "tests.infrastructure.terraform.tool"],
            cwd=ROOT,
            input=json.dumps(asked),
        )
        assert done.returncode == 0, done.stderr
        return json.loads(answer.read_text())


def parsed_policy(texts: list[str]) -> list[Statement]:
    """Statements as a parser of OCI's policies reads them."""
    parsed = run_tool("policies", texts)
    return [_statement(text, document) for text, document in zip(texts, parsed, strict=True)]


def _statement(text: str, parsed: Document) -> Statement:
    (compartment,) = parsed["location"]["values"]
    subjects = [s["label"] for s in parsed["subject"]["values"]] or [parsed["subject"]["type"]]
    assert parsed["location"]["type"] == "compartment-id", text
    actions = parsed["actions"]
    is_verb = actions["type"] == "verbs"
    targets, others, about = dict[str, frozenset[str]](), dict[str, str](), dict[str, str]()
    for item in parsed.get("conditions", {}).get("items", []):
        node = item["node"]
        name, value = node["lhs"], node["rhs"]["value"]
        assert node["op"] in {"eq", "neq"}, text
        if node["op"] == "neq":
            others[name] = value
        elif name.startswith("request."):
            about[name] = value
        else:
            targets[name] = targets.get(name, frozenset()) | {value}
    return Statement(
        text=text,
        denies=parsed["kind"] == "deny",
        subject=subjects[0],
        permissions=frozenset() if is_verb else frozenset(p.upper() for p in actions["values"]),
        verb=actions["values"][0] if is_verb else None,
        resource_type=next(iter(parsed["resources"]["values"]), None),
        compartment=compartment,
        targets=targets,
        others=others,
        about=about,
    )


def _messages(result: Document) -> str:
    """Terraform's error messages, whose lines it wraps."""
    value = result["value"]
    lines = value if isinstance(value, list) else (value or {}).get("diagnostics", [])
    found = [line.get("diagnostic", line) for line in lines]
    texts = [f"{d['summary']}: {d['detail']}" for d in found if d.get("severity") == "error"]
    return " ".join("\n".join([*texts, result["error"] or ""]).split())


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


def with_sessions() -> Stack:
    """One whose runners have sessions in each other's cloud."""
    federations = {"aws": {"federation": TO_OCI}, "oci": {"federation": plans.TO_AWS}}
    return Stack(plan=plan_document(runners=deepcopy(federations)))


@cache
def keys() -> tuple[Stack, Deployment, Deployment]:
    """The stack with keys, and what it comes to without its runner and with it.

    A test that changes the stack changes a copy.
    """
    return _both(Stack(plan=plan_document()))


@cache
def sessions() -> tuple[Stack, Deployment, Deployment]:
    """That with sessions."""
    return _both(with_sessions(), **FROM_AWS)


def _both(stack: Stack, **variables: object) -> tuple[Stack, Deployment, Deployment]:
    """Deploy as an operator does: first without an image, then with what was made in the plan and an image."""
    first = stack.apply(**variables)
    stack.name_made(first.outputs)
    stack.create_slots(first.outputs["secrets"])
    return stack, first, stack.apply(**with_image(**variables))
