"""How large a deployment is: resources, template, policies. No call to AWS is made."""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aws_cdk import App

from cdk.app import add_stack
from cdk.deployment import Deployment
from cdk.settings import ROOT, Settings
from cdk.template import Statement, Template
from lockstep.plan.model import Plan

CLI_CONTEXT = {
    "aws:cdk:enable-path-metadata": True,
    "aws:cdk:enable-asset-metadata": True,
    "aws:cdk:version-reporting": True,
}
"""What the CDK CLI adds: it makes the template larger."""
NO_LIMIT = {"@aws-cdk/core:stackResourceLimit": 0, "@aws-cdk/core:validateAgainstDefaultRules": False}
"""What does not fit is measured, too."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of one synthesised stack.

    Attributes:
        template_bytes: Of the file that is uploaded.
        managed_policy_characters: Of each managed policy, without white space.
        inline_policy_characters: Of all inline policies of each role, without white space.
        trust_policy_characters: The largest trust policy of a role.
        queue_policy_statements: The most statements of a queue's policy.
        seconds: Of the synthesis, without the checks.
    """

    credentials: int
    resources: int
    template_bytes: int
    rules: int
    managed_policy_characters: Mapping[str, int]
    inline_policy_characters: Mapping[str, int]
    trust_policy_characters: int
    queue_policy_statements: int
    seconds: float = 0.0


def synthesise(plan: Plan, settings: Settings, folder: Path) -> Template:
    """The template of a plan, without the checks of cdk-nag."""
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    app = App(outdir=str(folder), context={**context, **CLI_CONTEXT, **NO_LIMIT}, analytics_reporting=True)
    add_stack(Deployment.of(plan, settings), app)
    app.synth()
    content = json.loads(_file(folder, settings).read_text(encoding="utf-8"))
    return Template(content=content, stack=settings.stack, region=plan.lock.region)


def measure(plan: Plan, settings: Settings) -> Sizes:
    """Synthesise the stack and measure it."""
    count = len(plan.credential_sections)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lockstep-sizes-") as folder:
        template = synthesise(plan, settings, Path(folder))
        size = _file(Path(folder), settings).stat().st_size
    seconds = round(time.monotonic() - began, 1)
    return replace(sizes_of(template, credentials=count, template_bytes=size), seconds=seconds)


def sizes_of(template: Template, *, credentials: int, template_bytes: int) -> Sizes:
    """Measure a template."""
    managed: dict[str, int] = {}
    inline: dict[str, int] = {}
    for name, statements in template.role_policies():
        resource = template.resources[name]
        match resource["Type"]:
            case "AWS::IAM::ManagedPolicy":
                managed[name] = characters(statements)
            case "AWS::IAM::Role":
                inline[name] = inline.get(name, 0) + (characters(statements) if statements else 0)
            case _:
                for role in resource["Properties"]["Roles"]:
                    inline[role["Ref"]] = inline.get(role["Ref"], 0) + characters(statements)
    queues = [r["Properties"]["PolicyDocument"] for r in template.of_type("AWS::SQS::QueuePolicy").values()]
    trusts = [
        template.resolved(r["Properties"]["AssumeRolePolicyDocument"]["Statement"])
        for r in template.of_type("AWS::IAM::Role").values()
    ]
    return Sizes(
        credentials=credentials,
        resources=len(template.resources),
        template_bytes=template_bytes,
        rules=len(template.of_type("AWS::Events::Rule")),
        managed_policy_characters=managed,
        inline_policy_characters=inline,
        trust_policy_characters=max(characters(t) for t in trusts),
        queue_policy_statements=max(len(q["Statement"]) for q in queues),
    )


def characters(statements: list[Statement]) -> int:
    """The size of a policy as IAM counts it: without white space."""
    document = {"Version": "2012-10-17", "Statement": statements}
    return len("".join(json.dumps(document, ensure_ascii=False, separators=(",", ":")).split()))


def _file(folder: Path, settings: Settings) -> Path:
    return folder / f"{settings.stack}.template.json"
