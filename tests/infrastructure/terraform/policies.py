"""The policies of a deployment as parsed statements."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sandbox.emulators.oci import Grant
from tests.infrastructure.terraform.stack import Deployment, Document, run_tool


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement: a subject, its permissions, and the targets to which they are limited."""

    text: str
    denies: bool
    subject: str
    permissions: frozenset[str]
    verb: str | None
    resource_type: str | None
    compartment: str
    targets: Mapping[str, frozenset[str]]
    """The conditions by variable, such as `target.secret.id`. Empty if there is no condition."""
    others: Mapping[str, str]
    """The values that variables must not have."""
    about: Mapping[str, str] = field(default_factory=dict)
    """The conditions on who asks, such as `request.principal.name`."""

    def grants(self, resources: Mapping[str, str]) -> set[Grant]:
        """The statement as the sandbox's grants; `resources` maps the statement's ids to the sandbox's."""
        limits: list[str | None] = [resources.get(t, t) for ids in self.targets.values() for t in ids]
        compartment = resources.get(self.compartment, self.compartment)
        return {Grant(p, limit, compartment) for p in self.permissions for limit in limits or [None]}

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


def allowed(policy: Iterable[Statement], permission: str, request: Mapping[str, Sequence[str]]) -> bool:
    """Whether some statement allows a request and none denies it."""
    about = [s for s in policy if s.covers(permission, request)]
    return bool(about) and not any(s.denies for s in about)


def statements(deployment: Deployment) -> list[Statement]:
    """Every statement of every policy, parsed; invalid syntax fails."""
    texts = [s for policy in deployment.all("oci_identity_policy").values() for s in policy["statements"]]
    parsed = run_tool("policies", texts)
    return [_statement(text, document) for text, document in zip(texts, parsed, strict=True)]


def matching_rules(rules: Iterable[str]) -> list[Document]:
    """The rules of dynamic groups, parsed."""
    parsed: list[Document] = run_tool("matching_rules", list(rules))
    return parsed


def _statement(text: str, parsed: Document) -> Statement:
    (compartment,) = parsed["location"]["values"]
    subjects = [s["label"] for s in parsed["subject"]["values"]] or [parsed["subject"]["type"]]
    assert parsed["location"]["type"] == "compartment-id", text
    actions = parsed["actions"]
    is_verb = actions["type"] == "verbs"
    targets: dict[str, frozenset[str]] = {}
    others: dict[str, str] = {}
    about: dict[str, str] = {}
    for item in parsed.get("conditions", {}).get("items", []):
        name, value = item["node"]["lhs"], item["node"]["rhs"]["value"]
        if item["node"]["op"] == "neq":
            others[name] = value
        else:
            assert item["node"]["op"] == "eq", text
            if name.startswith("request."):
                about[name] = value
                continue
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
