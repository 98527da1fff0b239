"""What the stack gives the steps so that they are somebody in OCI without a key that lives long."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cdk.deployment import check_deployable, check_oci_role
from cdk.settings import ROOT, Adopt, NotDeployableError, Settings
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.plan.runners import Runners
from sandbox.emulators.aws.policies import Call, Context, decide
from tests.infrastructure.cdk_case import BOTH_CLOUDS, FEDERATED, PLAN, Synthesised, synthesised, title_of
from tests.infrastructure.template import Statement, Template, synthesise

STEPS = ("generate", "apply_db", "update_secrets", "digest")
KEY = "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-0000-0000-000000000000"


@pytest.fixture(scope="module", name="stack")
def _stack() -> Synthesised:
    return synthesised(plan=FEDERATED)


def plan_with(*, client: Mapping[str, str] | None = None, standby: bool = True) -> Plan:
    """The federated plan with another proof of the domain's application, or without a standby."""
    plan = load_plan(ROOT / FEDERATED)
    runners = plan.runners.model_dump(mode="json", exclude_none=True)
    if client:
        runners["aws"]["federation"].update({"kms_key": None, "certificate": None, **client})
    if not standby:
        del runners["oci"]
    return plan.model_copy(update={"runners": Runners.model_validate(runners)})


def template_of(plan: Plan, **settings: object) -> Template:
    with tempfile.TemporaryDirectory(prefix="lockstep-federation-") as folder:
        return synthesise(plan, Settings.model_validate({"plan": FEDERATED, **settings}), Path(folder))


def statements(template: Template, sid: str) -> dict[str, Statement]:
    """The statement with that name of each role."""
    return {
        title_of(name): one
        for name, found in template.role_policies()
        for one in found
        if one.get("Sid") == sid
    }


def test_each_step_may_ask_for_a_token_about_itself_for_oci_alone() -> None:
    tokens = statements(template_of(plan_with()), "OciToken")
    assert tokens.keys() == {*STEPS}
    for step, statement in tokens.items():
        function = f"arn:aws:lambda:eu-central-1:111122223333:function:lockstep-{step.replace('_', '-')}"
        assert (statement["Action"], statement["Resource"]) == ("sts:GetWebIdentityToken", "*")
        assert statement["Condition"] == {
            "ArnEquals": {"lambda:SourceFunctionArn": [function, f"{function}:*"]},
            "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": "lockstep"},
            "Null": {"sts:IdentityTokenAudience": "false"},
            "NumericLessThanEquals": {"sts:DurationSeconds": "300"},
            "StringEquals": {"sts:SigningAlgorithm": "RS256"},
        }


ASKS: Context = {
    "lambda:SourceFunctionArn": ("arn:aws:lambda:eu-central-1:111122223333:function:lockstep-generate",),
    "sts:DurationSeconds": ("300",),
    "sts:IdentityTokenAudience": ("lockstep",),
    "sts:SigningAlgorithm": ("RS256",),
}
"""What STS knows of the request of one step."""


@pytest.mark.parametrize(
    ("role", "other", "may"),
    [
        ("generate", {}, True),
        ("generate", {"sts:DurationSeconds": ("60",)}, True),
        ("generate", {"lambda:SourceFunctionArn": (f"{ASKS['lambda:SourceFunctionArn'][0]}:7",)}, True),
        ("generate", {"sts:DurationSeconds": ("301",)}, False),
        ("generate", {"sts:DurationSeconds": ()}, False),
        ("generate", {"sts:IdentityTokenAudience": ("another",)}, False),
        ("generate", {"sts:IdentityTokenAudience": ("lockstep", "another")}, False),
        ("generate", {"sts:IdentityTokenAudience": ()}, False),
        ("generate", {"sts:SigningAlgorithm": ("ES384",)}, False),
        ("generate", {"lambda:SourceFunctionArn": ()}, False),
        ("apply_db", {}, False),
        ("watch", {}, False),
        ("state machine", {}, False),
        ("fleet", {}, False),
        ("OCI runner", {}, False),
    ],
)
def test_a_token_is_for_oci_for_minutes_and_from_the_code_of_one_function(
    stack: Synthesised, *, role: str, other: Context, may: bool
) -> None:
    template = Template(content=stack.template, stack="lockstep")
    found = [s for name, some in template.role_policies() if title_of(name) == role for s in some]
    context = {key: values for key, values in {**ASKS, **other}.items() if values}
    call = Call(action="sts:GetWebIdentityToken", resource="*", context=context)
    assert decide(call, found).allowed is may


def test_without_a_standby_there_is_no_digest_in_oci_to_read() -> None:
    template = template_of(plan_with(standby=False))
    assert statements(template, "OciToken").keys() == {"generate", "apply_db", "update_secrets"}
    assert statements(template, "OciClient").keys() == {"generate", "apply_db", "update_secrets"}


def test_the_key_of_the_client_is_made_and_signs_client_assertions_only(stack: Synthesised) -> None:
    (name,) = (
        n for n, k in stack.resources("AWS::KMS::Key").items() if n.startswith("FoundationOciClientKey")
    )
    key = stack.resources("AWS::KMS::Key")[name]
    assert (key["Properties"]["KeySpec"], key["Properties"]["KeyUsage"]) == ("RSA_2048", "SIGN_VERIFY")
    assert (key["DeletionPolicy"], key["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    signing = {title: s for title, s in stack.policies() if s.get("Sid") == "OciClient"}
    assert signing.keys() == {*STEPS}
    for statement in signing.values():
        assert (statement["Action"], stack.words(statement["Resource"])) == (
            "kms:Sign",
            "key alias/lockstep-oci-client",
        )
        assert statement["Condition"] == {
            "StringEquals": {
                "kms:MessageType": "DIGEST",
                "kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256",
            }
        }


@pytest.mark.parametrize(
    ("named", "resource", "alias"),
    [
        (KEY, KEY, None),
        (KEY.rpartition("/")[2], KEY, None),
        ("alias/a", "arn:aws:kms:eu-central-1:111122223333:key/*", "alias/a"),
    ],
    ids=["by ARN", "by id", "adopted"],
)
def test_a_key_of_the_client_that_exists_is_not_made(named: str, resource: str, alias: str | None) -> None:
    plan = plan_with(client={"kms_key": named, "certificate": "lockstep"})
    template = template_of(plan, adopt={"existing": ["alias/a"]})
    assert not any(n.startswith("FoundationOciClientKey") for n in template.resources)
    for statement in statements(template, "OciClient").values():
        assert statement["Resource"] == resource
        found = statement["Condition"].get("ForAnyValue:StringEquals", {}).get("kms:ResourceAliases")
        assert found == alias


def test_a_client_secret_is_read_by_its_tag_and_nothing_signs() -> None:
    template = template_of(plan_with(client={"client_secret": "lockstep/client"}))
    assert not any(n.startswith("FoundationOciClientKey") for n in template.resources)
    assert not statements(template, "OciClient")
    assert statements(template, "OciToken").keys() == statements(template, "OciKey").keys() == {*STEPS}
    for statement in statements(template, "OciKey").values():
        assert statement["Condition"]["StringEquals"]["aws:ResourceTag/lockstep:secret"] == ["runner-key"]


def test_a_key_is_not_named_by_the_arn_of_an_alias() -> None:
    """A policy with that as its resource lets nobody use the key."""
    arn = "arn:aws:kms:eu-central-1:111122223333:alias/a"
    plan = plan_with(client={"kms_key": arn, "certificate": "lockstep"})
    with pytest.raises(
        NotDeployableError, match=r"federation\.kms_key: .*; give the ARN of the key, or alias/a$"
    ):
        check_deployable(plan)
    for field, value in (("mac_key", arn), ("retired_mac_keys", (arn,))):
        other = plan_with()
        audit = other.audit.model_copy(update={"aws": other.audit.aws.model_copy(update={field: value})})
        with pytest.raises(NotDeployableError, match=rf"audit\.aws\.{field}: .*; give the ARN of the key"):
            check_deployable(other.model_copy(update={"audit": audit}))


@pytest.mark.parametrize("alias", ["alias/lockstep", "alias/lockstep-audit", "alias/lockstep-digests"])
def test_the_key_of_the_client_is_none_of_the_others(alias: str) -> None:
    plan = plan_with(client={"kms_key": alias, "certificate": "lockstep"})
    with pytest.raises(NotDeployableError, match="another key's"):
        check_deployable(plan)


def test_an_output_names_the_principals_of_ocis_policies(stack: Synthesised) -> None:
    template = Template(content=stack.template, stack="lockstep")
    told = json.loads(template.resolved(stack.template["Outputs"]["OciPrincipals"]["Value"]))
    roles = {title_of(name): template.arn(name) for name in template.of_type("AWS::IAM::Role")}
    assert told == {step: roles[step] for step in STEPS}


def test_they_are_the_same_before_the_plan_changes_over_from_keys(stack: Synthesised) -> None:
    outputs = [s.template["Outputs"]["OciPrincipals"] for s in (synthesised(plan=BOTH_CLOUDS), stack)]
    assert outputs[0] == outputs[1]
    assert "OciPrincipals" not in synthesised(plan=PLAN).template["Outputs"]


def roles_of(stack: Synthesised) -> Mapping[str, Any]:
    """The names that CloudFormation keeps the steps' roles by."""
    return {n: r["Properties"].get("RoleName") for n, r in stack.resources("AWS::IAM::Role").items()}


def test_a_plan_that_changes_over_from_keys_keeps_the_roles_of_the_steps(stack: Synthesised) -> None:
    """A new role would break the versions of the functions with which runs under way go on (protocol R14)."""
    assert roles_of(synthesised(plan=BOTH_CLOUDS)).items() <= roles_of(stack).items()


ISSUER = "objectstorage.eu-frankfurt-1.oraclecloud.com/n/example/b/lockstep-issuer/o"


def test_the_oci_runner_gets_its_role_for_a_token_of_one_issuer_audience_and_subject(
    stack: Synthesised,
) -> None:
    template = Template(content=stack.template, stack="lockstep")
    (name,) = (n for n in stack.resources("AWS::IAM::Role") if n.startswith("OciRunnerRole"))
    role = stack.resources("AWS::IAM::Role")[name]["Properties"]
    (trust,) = template.resolved(role["AssumeRolePolicyDocument"]["Statement"])
    assert trust == {
        "Effect": "Allow",
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": f"arn:aws:iam::111122223333:oidc-provider/{ISSUER}"},
        "Condition": {
            "StringEquals": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": "lockstep-oci-runner"}
        },
    }
    assert (role["RoleName"], role["MaxSessionDuration"]) == ("lockstep-oci-runner", 3600)
    assert "Policies" not in role
    (policy,) = stack.resources("AWS::IAM::ManagedPolicy").values()
    assert policy["Properties"]["Roles"] == [{"Ref": name}]
    assert template.arn(name) == "arn:aws:iam::111122223333:role/lockstep-oci-runner"


def test_the_provider_takes_tokens_for_one_audience_and_is_there_before_the_role(stack: Synthesised) -> None:
    ((name, provider),) = stack.resources("AWS::IAM::OIDCProvider").items()
    assert provider["Properties"]["Url"] == f"https://{ISSUER}"
    assert provider["Properties"]["ClientIdList"] == ["sts.amazonaws.com"]
    (role,) = (r for n, r in stack.resources("AWS::IAM::Role").items() if n.startswith("OciRunnerRole"))
    assert name in role["DependsOn"]


def test_the_policy_of_the_oci_runner_is_the_same_resource_with_a_key_and_with_a_role(
    stack: Synthesised,
) -> None:
    """So a stack changes over in one deployment, and the user of the key has it until a person takes it away."""
    with_key = synthesised(plan=BOTH_CLOUDS).resources("AWS::IAM::ManagedPolicy")
    with_role = stack.resources("AWS::IAM::ManagedPolicy")
    ((name, before),) = with_key.items()
    after = {key: value for key, value in with_role[name]["Properties"].items() if key != "Roles"}
    assert after == before["Properties"]
    assert not any(
        n.startswith("OciRunner") for n in synthesised(plan=BOTH_CLOUDS).resources("AWS::IAM::Role")
    )


def test_a_provider_or_a_role_that_is_adopted_is_not_made() -> None:
    template = template_of(plan_with(), adopt={"existing": [f"https://{ISSUER}"]})
    assert not template.of_type("AWS::IAM::OIDCProvider")
    (trust,) = (
        template.resolved(role["Properties"]["AssumeRolePolicyDocument"]["Statement"])
        for name, role in template.of_type("AWS::IAM::Role").items()
        if name.startswith("OciRunnerRole")
    )
    assert trust[0]["Principal"] == {"Federated": f"arn:aws:iam::111122223333:oidc-provider/{ISSUER}"}
    template = template_of(plan_with(), adopt={"existing": ["lockstep-oci-runner"]})
    assert not any(name.startswith("OciRunnerRole") for name in template.resources)
    (policy,) = template.of_type("AWS::IAM::ManagedPolicy").values()
    assert "Roles" not in policy["Properties"]


def test_the_role_of_the_plan_is_that_of_the_stack_unless_it_is_adopted() -> None:
    plan = load_plan(ROOT / FEDERATED)
    check_oci_role(plan, Settings())
    with pytest.raises(NotDeployableError, match="name arn:aws:iam::111122223333:role/two-oci-runner, or"):
        check_oci_role(plan, Settings(stack="two"))
    check_oci_role(plan, Settings(stack="two", adopt=Adopt(existing=("lockstep-oci-runner",))))
    check_oci_role(load_plan(ROOT / BOTH_CLOUDS), Settings(stack="two"))


def test_a_boundary_bounds_the_role_too() -> None:
    template = template_of(plan_with(), permissions_boundary="estate")
    roles = template.of_type("AWS::IAM::Role").values()
    assert all("PermissionsBoundary" in r["Properties"] for r in roles)
