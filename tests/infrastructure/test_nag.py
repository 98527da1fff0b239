"""The rule sets of cdk-nag: each of their findings in the stack is one that is known, with the reason."""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks, ServerlessChecks

from cdk.app import LockstepStack
from cdk.deployment import read_deployment
from cdk.settings import ROOT, Settings
from tests.infrastructure.cdk_case import AUDIT, LOGS, PLAN, PLANS, SHAPES, hollow_bundle

KNOWN = {
    "Functions/*Role AwsSolutions-IAM5*Resource::*]": "X-Ray, network interfaces in a VPC, and a token about the role "
    "itself have no resource that a policy can name.",
    "Functions/*Role Serverless-LambdaStarPermissions": "Likewise.",
    "*Role AwsSolutions-IAM5*secretsmanager:*:secret:*]": "Conditions on the tags of a secret limit it to this stack "
    "and to the kinds that the role needs.",
    "OciRunner AwsSolutions-IAM5*secretsmanager:*:secret:*]": "Likewise.",
    "* AwsSolutions-IAM5*rds-db:*:dbuser:*/*]": "Every rotation user has this name. A policy that names databases "
    "would grow with the plan.",
    "*Role AwsSolutions-IAM5*/plans/*]": "Each credential has a document of its own.",
    "Functions/AuditRole AwsSolutions-IAM5*/aws/*]": "Each entry has a name of its own. A policy that names "
    "credentials would grow with the plan.",
    "Functions/DigestRole AwsSolutions-IAM5*/aws/*]": "Likewise.",
    "Functions/DigestRole AwsSolutions-IAM5*/digests/*]": "Each digest has a name of its own.",
    "OciRunner AwsSolutions-IAM5*/digests/*]": "Likewise.",
    "Functions/*Role AwsSolutions-IAM5*:log-group:*:*]": "The streams of its own log group.",
    "Functions/*Role AwsSolutions-IAM5*:kms:*:key/*]": "The key is known by its alias, which a condition names.",
    "Functions/AnnounceRole AwsSolutions-IAM5*:execution:*:*]": "Each execution has a name of its own.",
    "Functions/* Serverless-LambdaDLQ": "Step Functions invokes a step synchronously. The watch and the digest are "
    "called again soon, and alarms tell if they stay silent. An event that is lost is no evidence.",
    "Functions/* AwsSolutions-L1": "A zip holds byte code and compiled packages for the Python version that built it.",
    "Functions/* Serverless-LambdaLatestVersion": "Likewise.",
    "*/Rule Serverless-EventBusDLQ": "The function is called again soon, and an alarm tells if it stays silent; an "
    "event that is lost is no evidence.",
    "Monitoring/Promotions Serverless-EventBusDLQ": "Its target is the dead-letter queue itself.",
    "Monitoring/Alarms/*/*@* Serverless-SNSRedrivePolicy": "If a mail cannot be delivered, the alarm still shows its "
    "state in CloudWatch.",
    "Schedules/DeadLetters AwsSolutions-SQS3": "This is the dead-letter queue.",
    "Schedules/DeadLetters Serverless-SQSRedrivePolicy": "Likewise.",
    "StateMachine/Role AwsSolutions-IAM5*.Arn>:*]": "A run under way calls the versions that it began with.",
    "StateMachine/Role AwsSolutions-IAM5*Resource::*]": "Log delivery and X-Ray have no resource that can be named.",
    "Fleet/Role AwsSolutions-IAM5*Resource::*]": "Likewise.",
    "Fleet/Role AwsSolutions-IAM5*/plans/*/shards/*]": "Each shard has an object of its own.",
    "Fleet/Role AwsSolutions-IAM5*/reports/*]": "Each report has a name of its own.",
    "Fleet/Role AwsSolutions-IAM5*:execution:*:*]": "Each execution has a name of its own.",
    "Fleet/Role AwsSolutions-IAM5*:mapRun:*/*]": "Each run of the map has a name of its own.",
}
"""Construct and rule, and why it stays. What follows `Resource::` is the resource that a policy names."""


def findings(folder: Path, **settings: object) -> Iterator[str]:
    app = App(outdir=str(folder), context=json.loads((ROOT / "cdk.json").read_text())["context"])
    LockstepStack(app, read_deployment(Settings.model_validate({"plan": PLAN, **settings})))
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    report: Mapping[str, Any] = json.loads((folder / "validation-report.json").read_text())
    for plugin in report["pluginReports"]:
        for violation in plugin.get("violations", []):
            for construct in violation["violatingConstructs"]:
                path = construct["constructPath"].removeprefix("lockstep/").removesuffix("/Resource")
                yield f"{path} {violation['ruleName']}"


def is_known(finding: str, pattern: str) -> bool:
    """Whether a row of the table is about a finding; `[` and `]` mean themselves, and `Resource::*]` only that."""
    if pattern.endswith("Resource::*]"):
        head, _, tail = finding.partition("[Resource::")
        return tail == "*]" and fnmatchcase(head, pattern.removesuffix("*Resource::*]") + "*")
    return "[Resource::*]" not in finding and fnmatchcase(finding, pattern)


def test_every_finding_is_known_and_all_that_is_known_is_found(tmp_path: Path) -> None:
    variants: tuple[Mapping[str, object], ...] = (
        SHAPES["federated"],
        SHAPES["events"],
        {
            **SHAPES["iam"],
            "packaging": "zip",
            "bundle": hollow_bundle(tmp_path / "bundle", ROOT / PLAN),
            "adopt": {"existing": [AUDIT, PLANS, "alias/lockstep-audit", LOGS[0]]},
        },
    )
    found = {
        finding
        for number, settings in enumerate(variants)
        for finding in findings(tmp_path / str(number), **settings)
    }
    assert [finding for finding in sorted(found) if not any(is_known(finding, row) for row in KNOWN)] == []
    assert [row for row in KNOWN if not any(is_known(finding, row) for finding in found)] == []
