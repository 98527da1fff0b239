"""The policies of a deployment as parsed statements."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sandbox.oci import Grant
from tests.infrastructure.terraform.stack import Deployment, Document, Stack, run_tool


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement: a subject, its permissions, and the targets to which they are limited."""

    text: str
    subject: str
    permissions: frozenset[str]
    verb: str | None
    resource_type: str | None
    compartment: str
    targets: Mapping[str, frozenset[str]]
    """The conditions by variable, such as `target.secret.id`. Empty if there is no condition."""

    def grants(self, resources: Mapping[str, str]) -> set[Grant]:
        """The statement as the sandbox's grants; `resources` maps the statement's ids to the sandbox's."""
        limits: list[str | None] = [resources.get(t, t) for ids in self.targets.values() for t in ids]
        compartment = resources.get(self.compartment, self.compartment)
        return {Grant(p, limit, compartment) for p in self.permissions for limit in limits or [None]}


def statements(stack: Stack, deployment: Deployment) -> list[Statement]:
    """Every statement of every policy, parsed; invalid syntax fails."""
    texts = [s for policy in deployment.all("oci_identity_policy").values() for s in policy["statements"]]
    (parsed,) = run_tool(stack.folder, ("policies", texts))
    return [_statement(text, document) for text, document in zip(texts, parsed, strict=True)]


def matching_rules(stack: Stack, rules: Iterable[str]) -> list[Document]:
    """The rules of dynamic groups, parsed."""
    (parsed,) = run_tool(stack.folder, ("matching_rules", list(rules)))
    return list(parsed)


def _statement(text: str, parsed: Document) -> Statement:
    ((subject,), (compartment,)) = parsed["subject"]["values"], parsed["location"]["values"]
    assert parsed["location"]["type"] == "compartment-id", text
    actions = parsed["actions"]
    is_verb = actions["type"] == "verbs"
    targets: dict[str, frozenset[str]] = {}
    for item in parsed.get("conditions", {}).get("items", []):
        clause = item["node"]
        assert clause["op"] == "eq", text
        targets[clause["lhs"]] = targets.get(clause["lhs"], frozenset()) | {clause["rhs"]["value"]}
    return Statement(
        text=text,
        subject=subject["label"],
        permissions=frozenset() if is_verb else frozenset(p.upper() for p in actions["values"]),
        verb=actions["values"][0] if is_verb else None,
        resource_type=next(iter(parsed["resources"]["values"]), None),
        compartment=compartment,
        targets=targets,
    )
