"""Sessions in OCI for the functions of the AWS runner: what Terraform makes of them, and when."""

import json
from pathlib import Path

import pytest

from lockstep.plan.compiled import ClientKey, FederationToOci
from lockstep.plan.file import parse_plan
from tests.infrastructure.terraform.policies import statements
from tests.infrastructure.terraform.sessions import FROM_AWS, ISSUER, ROLES, TO_OCI, federated
from tests.infrastructure.terraform.stack import Deployment, Stack, needs_tools, with_image
from tests.infrastructure.terraform.world import of

pytestmark = needs_tools

APP, TRUST = "oci_identity_domains_app", "oci_identity_domains_identity_propagation_trust"
ALIAS, USER = "oci_identity_domains_oauth_client_certificate", "oci_identity_domains_user"
OF_KEYS = {
    "oci_identity_user",
    "oci_identity_group",
    "oci_identity_api_key",
    "oci_identity_user_group_membership",
    "oci_identity_user_capabilities_management",
}
KEY = {"aws_runner_public_key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}


@pytest.fixture(name="shared", scope="module")
def _shared() -> tuple[Stack, Deployment]:
    stack = Stack(plan=federated())
    return stack, stack.apply(**FROM_AWS)


@pytest.fixture(name="fresh")
def _fresh() -> Stack:
    """One for a test that changes its plan."""
    return Stack(plan=federated())


def say(stack: Stack, **changes: object) -> None:
    stack.plan["runners"]["aws"]["federation"].update(changes)


def compiled(stack: Stack) -> FederationToOci:
    found = parse_plan(json.dumps(stack.plan), base=Path()).compiled.to_oci
    assert isinstance(found, FederationToOci)
    return found


# ---- what is made


def test_a_session_needs_no_user_and_no_key(shared: tuple[Stack, Deployment]) -> None:
    _, deployment = shared
    assert not deployment.kinds & OF_KEYS
    assert "aws_runner" not in deployment.outputs


def test_the_application_proves_itself_by_the_certificate_of_the_plan(
    shared: tuple[Stack, Deployment],
) -> None:
    stack, deployment = shared
    app, alias, to_oci = deployment.one(APP), deployment.one(ALIAS), compiled(stack)
    assert (app["idcs_endpoint"], app["name"]) == (to_oci.domain_url, to_oci.client_id)
    assert (app["active"], app["is_oauth_client"], app["client_type"]) == (True, True, "trusted")
    assert app["allowed_grants"] == ["client_credentials"]
    assert isinstance(to_oci.client, ClientKey)
    assert [c["cert_alias"] for c in app["certificates"]] == [to_oci.client.certificate]
    assert alias["certificate_alias"] == to_oci.client.certificate
    assert alias["x509base64certificate"] == "MIIBAQID"


def test_the_trust_takes_what_the_functions_show(shared: tuple[Stack, Deployment]) -> None:
    stack, deployment = shared
    trust, to_oci = deployment.one(TRUST), compiled(stack)
    expected = {
        "idcs_endpoint": to_oci.domain_url,
        "name": "lockstep-aws",
        "type": "JWT",
        "active": True,
        "issuer": ISSUER,
        "public_key_endpoint": f"{ISSUER}/.well-known/jwks.json",
        "subject_type": "Resource",
        "subject_claim_name": "sub",
        "client_claim_name": "aud",
        "client_claim_values": [to_oci.audience],
        "allow_impersonation": True,
        "impersonating_resource": to_oci.resource_type,
        "impersonation_service_users": [],
        "oauth_clients": [to_oci.client_id],
    }
    assert {name: trust[name] for name in expected} == expected


def test_the_output_is_the_section_of_the_plan(shared: tuple[Stack, Deployment]) -> None:
    stack, deployment = shared
    plan = federated()
    plan["runners"]["aws"]["federation"] = deployment.outputs["runners_aws_federation"]
    assert parse_plan(json.dumps(plan), base=Path()).compiled.to_oci == compiled(stack)


def test_an_application_with_a_secret_needs_no_certificate(fresh: Stack) -> None:
    say(fresh, kms_key=None, certificate=None, client_secret="lockstep/oci-client-secret")
    variables = {name: FROM_AWS[name] for name in ("aws_token_issuer", "aws_role_arns")}
    deployment = fresh.apply(**variables)
    assert deployment.one(APP)["client_type"] == "confidential"
    assert deployment.one(APP)["certificates"] == []
    assert not deployment.all(ALIAS)


def test_sessions_of_users_have_one_for_each_function(fresh: Stack) -> None:
    say(fresh, token="upst")
    deployment = fresh.apply(**FROM_AWS)
    trust, users = deployment.one(TRUST), deployment.all(USER)
    assert (trust["subject_type"], trust["impersonating_resource"]) == ("User", None)
    rules = {(u["rule"], u["value"]) for u in trust["impersonation_service_users"]}
    assert rules == {(f"sub eq '{ROLES[step]}'", users[f'aws_function["{step}"]']["id"]) for step in ROLES}
    for user in users.values():
        assert user["urnietfparamsscimschemasoracleidcsextensionuser_user"] == [{"service_user": True}]
    granted = [s for s in statements(deployment) if "request.user.id" in s.about]
    assert {s.about["request.user.id"] for s in granted} == {u["ocid"] for u in users.values()}


# ---- the order of a first deployment


def test_terraform_comes_first_then_the_stack_in_aws_then_terraform_again(fresh: Stack) -> None:
    first = fresh.apply()
    assert not first.kinds & {APP, TRUST, ALIAS, *OF_KEYS}
    assert "runners_aws_federation" not in first.outputs
    fresh.name_made(first.outputs)
    refused = fresh.refused(**with_image())
    for missing in ("aws_token_issuer", "aws_role_arns with generate, apply_db", "aws_client_certificate"):
        assert missing in refused
    deployment = fresh.apply(**with_image(**FROM_AWS))
    assert deployment.one(APP)["name"] == TO_OCI["client_id"]


def test_without_a_standby_the_digest_needs_nothing_in_oci(fresh: Stack) -> None:
    del fresh.plan["runners"]["oci"]
    roles = {step: arn for step, arn in ROLES.items() if step != "digest"}
    deployment = fresh.apply(**{**FROM_AWS, "aws_role_arns": roles})
    asked = {s.about.get("request.principal.name") for s in statements(deployment)}
    assert asked - {None} == set(roles.values())


def test_wrong_variables_are_refused_with_a_reason(fresh: Stack) -> None:
    say(fresh, client_id="lockstep-client")
    wrong = {
        "aws_token_issuer": "https://sts.amazonaws.com",
        "aws_role_arns": {"generate": "arn:aws:iam::123456789012:user/x", "prove": "' or 'a' = 'a"},
        "aws_client_certificate": "-----BEGIN PRIVATE KEY-----",
        "keep_api_keys": ["admin"],
    }
    text = fresh.refused(**wrong)
    for complaint in (
        "aws_token_issuer must be an address such as",
        "aws_role_arns must be named by step",
        "aws_role_arns must be ARNs of roles",
        "aws_client_certificate must be one certificate",
        "keep_api_keys must be writer, reader, or both",
    ):
        assert complaint in text
    same = {**FROM_AWS, "aws_role_arns": dict.fromkeys(ROLES, ROLES["digest"])}
    assert "a role of its own for each step" in fresh.refused(**same)
    assert "It must be letters, digits and underscores" in fresh.refused(**FROM_AWS)


# ---- a second stack, and users beside sessions


def test_the_user_can_stay_beside_the_sessions(fresh: Stack) -> None:
    with_sessions = fresh.apply(**FROM_AWS)
    both = fresh.apply(**FROM_AWS, **KEY, keep_api_keys=["writer"])
    assert both.kinds == with_sessions.kinds | OF_KEYS
    fresh.plan["runners"]["aws"] = {"oci_key_secret": "lockstep/oci-key"}
    keys = fresh.apply(**KEY)
    assert both.outputs["aws_runner"] == keys.outputs["aws_runner"]
    group = "lockstep-aws-runner"
    policies = [{s.text for s in of(group, statements(one), one)} for one in (both, keys)]
    assert policies[0] == policies[1] != set()


def test_a_second_stack_adopts_the_trust_of_its_account(fresh: Stack) -> None:
    first = fresh.apply(**FROM_AWS, trusted_clients=["second_client"]).one(TRUST)
    say(fresh, client_id="second_client")
    adopting = {**FROM_AWS, "name": "second", "aws_trust_id": "trust"}
    fresh.there[f"{TRUST}.adopted"] = first
    second = fresh.apply(**adopting)
    assert not second.all(TRUST)
    assert second.one(APP)["name"] == "second_client"
    domains = {s.about["request.principal.domain.id"] for s in statements(second) if s.about}
    assert domains == {first["domain_ocid"]}
    other = {
        "oauth_clients": ["lockstep_client"],
        "impersonating_resource": "x",
        "client_claim_values": ["x"],
    }
    fresh.there[f"{TRUST}.adopted"] = {**first, **other}
    text = fresh.refused(**{**adopting, "aws_token_issuer": ISSUER.replace("0", "1")})
    for complaint in (
        "its clients must include second_client",
        "it must be active, and for",
        "and the trust lockstep, not x",
        "with lockstep as aud",
    ):
        assert complaint in text
