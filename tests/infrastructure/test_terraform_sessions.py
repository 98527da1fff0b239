"""Sessions in OCI for the functions of the AWS runner: what Terraform makes of them, and when."""

import json
import shutil
from pathlib import Path

import pytest

from lockstep.compiled import FederationToOci
from lockstep.plan_file import parse_plan
from tests.infrastructure.terraform import tenancy
from tests.infrastructure.terraform.policies import statements
from tests.infrastructure.terraform.sessions import CERTIFICATE, FROM_AWS, ISSUER, ROLES, TO_OCI, federated
from tests.infrastructure.terraform.stack import (
    CONFIGURATION,
    Deployment,
    Document,
    Stack,
    messages,
    needs_tools,
    succeeded,
    with_image,
)
from tests.infrastructure.terraform.world import of

# Each test runs Terraform up to ten times.
pytestmark = [needs_tools, pytest.mark.timeout(1800)]

APP, TRUST = "oci_identity_domains_app", "oci_identity_domains_identity_propagation_trust"
ALIAS, USER = "oci_identity_domains_oauth_client_certificate", "oci_identity_domains_user"
OF_KEYS = {
    "oci_identity_user",
    "oci_identity_group",
    "oci_identity_api_key",
    "oci_identity_user_group_membership",
    "oci_identity_user_capabilities_management",
}
OF_SESSIONS = {APP, TRUST, ALIAS}
KEY = {"aws_runner_public_key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}


@pytest.fixture(name="blank", scope="module")
def _blank(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return Stack.new(tmp_path_factory.mktemp("blank"), federated())


@pytest.fixture(name="shared", scope="module")
def _shared(blank: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stack, Deployment]:
    stack = blank.copy(tmp_path_factory.mktemp("shared"))
    return stack, stack.apply(**FROM_AWS)


def say(stack: Stack, **changes: object) -> None:
    stack.plan["runners"]["aws"]["federation"].update(changes)


def delete_application(stack: Stack) -> None:
    """Deactivate and delete it, as an administrator of the domain does."""
    document = tenancy.read(stack.tenancy)
    [ocid] = [ocid for ocid, resource in document["resources"].items() if resource["type"] == APP]
    document["resources"][ocid]["values"]["active"] = False
    tenancy.Tenancy(document).delete(APP, ocid)
    tenancy.write(stack.tenancy, document)


def told(results: list[Document]) -> str:
    return " ".join("\n".join(messages(results)).split())


def kinds(deployment: Deployment) -> set[str]:
    return {r["type"] for r in deployment.resources if r["mode"] == "managed"}


def compiled(stack: Stack) -> FederationToOci:
    found = parse_plan(json.dumps(stack.plan), base=Path()).compiled.to_oci
    assert isinstance(found, FederationToOci)
    return found


def changes_nothing(stack: Stack, **variables: object) -> None:
    (planned,) = stack.run(("plan", None), **variables)
    assert planned["code"] == 0, told([planned])


# ---- what is made


def test_a_session_needs_no_user_and_no_key(shared: tuple[Stack, Deployment]) -> None:
    _, deployment = shared
    assert not kinds(deployment) & OF_KEYS
    assert "aws_runner" not in deployment.outputs


def test_the_application_proves_itself_by_the_certificate_of_the_plan(
    shared: tuple[Stack, Deployment],
) -> None:
    stack, deployment = shared
    app, alias, to_oci = deployment.one(APP), deployment.one(ALIAS), compiled(stack)
    assert (app["idcs_endpoint"], app["name"]) == (to_oci.domain_url, to_oci.client_id)
    assert (app["active"], app["is_oauth_client"], app["client_type"]) == (True, True, "trusted")
    assert app["allowed_grants"] == ["client_credentials"]
    assert to_oci.client.kind == "kms-key"
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


def test_the_state_holds_no_client_secret(shared: tuple[Stack, Deployment]) -> None:
    stack, deployment = shared
    assert deployment.one(APP)["client_secret"] is None
    assert "secret-of-" not in (stack.folder / "terraform.tfstate").read_text()


def test_a_second_apply_changes_nothing(shared: tuple[Stack, Deployment]) -> None:
    changes_nothing(shared[0], **FROM_AWS)


def test_defaults_are_those_of_the_code(fresh: Stack) -> None:
    say(fresh, audience="tokens-for-oci", resource_type="rotation")
    deployment = fresh.apply(**FROM_AWS)
    trust = deployment.one(TRUST)
    assert (trust["client_claim_values"], trust["impersonating_resource"]) == (["tokens-for-oci"], "rotation")


def test_an_application_with_a_secret_needs_no_certificate(fresh: Stack) -> None:
    say(fresh, client={"secret": "lockstep/oci-client-secret"})
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
    granted = [s for s in statements(fresh, deployment) if "request.user.id" in s.about]
    assert {s.about["request.user.id"] for s in granted} == {u["ocid"] for u in users.values()}
    changes_nothing(fresh, **FROM_AWS)


# ---- the order of a first deployment


def test_terraform_comes_first_then_the_stack_in_aws_then_terraform_again(fresh: Stack) -> None:
    first = fresh.apply()
    assert not kinds(first) & {APP, TRUST, ALIAS, *OF_KEYS}
    assert "runners_aws_federation" not in first.outputs
    fresh.name_made(first.outputs)
    (refused,) = fresh.run(("plan", None), **with_image())
    for missing in ("aws_token_issuer", "aws_role_arns with generate, apply_db", "aws_client_certificate"):
        assert missing in told([refused])
    deployment = fresh.apply(**with_image(**FROM_AWS))
    assert deployment.one(APP)["name"] == TO_OCI["client_id"]
    changes_nothing(fresh, **with_image(**FROM_AWS))


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        ({"aws_token_issuer": None}, "aws_token_issuer"),
        ({"aws_role_arns": {"generate": ROLES["generate"]}}, "aws_role_arns with generate, apply_db"),
        ({"aws_client_certificate": None}, "aws_client_certificate"),
    ],
)
def test_half_of_the_variables_are_refused(without: Document, missing: str, fresh: Stack) -> None:
    (refused,) = fresh.run(("plan", None), **{**FROM_AWS, **without})
    assert f"Sessions for the AWS runner need more variables: {missing}" in told([refused])


def test_variables_that_are_missing_later_end_no_session(fresh: Stack) -> None:
    fresh.apply(**FROM_AWS)
    assert "Instance cannot be destroyed" in told(fresh.run(("plan", None)))


def test_without_a_standby_the_audit_needs_nothing_in_oci(fresh: Stack) -> None:
    del fresh.plan["runners"]["oci"]
    roles = {step: arn for step, arn in ROLES.items() if step != "audit"}
    deployment = fresh.apply(**{**FROM_AWS, "aws_role_arns": roles})
    asked = {s.about.get("request.principal.name") for s in statements(fresh, deployment)}
    assert asked - {None} == set(roles.values())


def test_wrong_variables_are_refused_with_a_reason(fresh: Stack) -> None:
    say(fresh, client_id="lockstep-client")
    wrong = {
        "aws_token_issuer": "https://sts.amazonaws.com",
        "aws_role_arns": {"generate": "arn:aws:iam::123456789012:user/x", "prove": "' or 'a' = 'a"},
        "aws_client_certificate": "-----BEGIN PRIVATE KEY-----",
        "keep_api_keys": ["admin"],
    }
    text = told(fresh.run(("plan", None), **wrong))
    for complaint in (
        "aws_token_issuer must be an address such as",
        "aws_role_arns must be named by step",
        "aws_role_arns must be ARNs of roles",
        "aws_client_certificate must be one certificate",
        "keep_api_keys must be writer, reader, or both",
    ):
        assert complaint in text
    same = {**FROM_AWS, "aws_role_arns": dict.fromkeys(ROLES, ROLES["audit"])}
    assert "a role of its own for each step" in told(fresh.run(("plan", None), **same))
    assert "It must be letters, digits and underscores" in told(fresh.run(("plan", None), **FROM_AWS))


# ---- a new certificate, and from keys to sessions


def test_a_new_certificate_takes_over_under_a_new_alias(fresh: Stack) -> None:
    fresh.apply(**FROM_AWS)
    say(fresh, client={"kms_key": "alias/next", "certificate": "next"})
    deployment = fresh.apply(**{**FROM_AWS, "aws_client_certificate": CERTIFICATE.replace("MIIB", "MIIC")})
    # The one before is deposed until the application has gone on.
    now = [r["values"] for r in deployment.resources if r["type"] == ALIAS and "deposed_key" not in r]
    assert [values["certificate_alias"] for values in now] == ["next"]
    assert [c["cert_alias"] for c in deployment.one(APP)["certificates"]] == ["next"]


def test_the_user_stays_until_aws_has_gone_on_to_sessions(fresh: Stack) -> None:
    sessions = fresh.plan["runners"]["aws"]
    fresh.plan["runners"]["aws"] = {"oci_key_secret": "lockstep/oci-key"}
    before = fresh.apply(**KEY)
    fresh.plan["runners"]["aws"] = sessions
    (refused,) = fresh.run(("plan", None), **FROM_AWS, **KEY)
    assert "Instance cannot be destroyed" in told([refused])
    both = fresh.apply(**FROM_AWS, **KEY, keep_api_keys=["writer"])
    assert both.outputs["aws_runner"] == before.outputs["aws_runner"]
    assert both.one(APP)["active"]
    group = "lockstep-aws-runner"
    policy = statements(fresh, both)
    assert [s.text for s in of(group, policy, both)] == [
        s.text for s in of(group, statements(fresh, before), before)
    ]
    # Then a person deletes the key, and the user goes.
    document = tenancy.read(fresh.tenancy)
    for ocid, resource in list(document["resources"].items()):
        if resource["type"] == "oci_identity_api_key":
            del document["resources"][ocid]
    tenancy.write(fresh.tenancy, document)
    after = fresh.apply(**FROM_AWS)
    assert not kinds(after) & OF_KEYS


def test_the_user_is_there_before_aws_goes_back_to_keys(fresh: Stack) -> None:
    with_sessions = fresh.apply(**FROM_AWS)
    both = fresh.apply(**FROM_AWS, **KEY, keep_api_keys=["writer"])
    assert both.outputs["aws_runner"]["fingerprint"]
    assert kinds(with_sessions) < kinds(both)
    fresh.plan["runners"]["aws"] = {"oci_key_secret": "lockstep/oci-key"}
    assert "Instance cannot be destroyed" in told(fresh.run(("plan", None), **KEY))
    delete_application(fresh)
    after = fresh.apply(**KEY)
    assert not kinds(after) & OF_SESSIONS
    assert after.outputs["aws_runner"] == both.outputs["aws_runner"]


# ---- two stacks, and the end of a trial


def test_two_stacks_share_the_trust_of_their_account(fresh: Stack, blank: Stack, tmp_path: Path) -> None:
    one = fresh.apply(**FROM_AWS, trusted_clients=["second_client"])
    second = blank.copy(tmp_path / "second")
    second.tenancy = fresh.tenancy
    second.store["compartment_id"] = "ocid1.compartment.oc1..bbbb"
    second.plan["audit"]["oci"].update(bucket="second-audit", mac_secret="second/mac")
    client = {"kms_key": "alias/second", "certificate": "second"}
    say(second, client_id="second_client", client=client)
    variables = {**FROM_AWS, "name": "second", "vault_ocid": None}
    assert "409-AlreadyExists" in told(second.run(("apply", None), **variables))
    adopting = {**variables, "aws_trust_id": one.one(TRUST)["id"]}
    two = second.apply(**adopting)
    assert not two.all(TRUST)
    assert two.one(APP)["name"] == "second_client"
    domains = {s.about["request.principal.domain.id"] for s in statements(second, two) if s.about}
    assert domains == {one.one(TRUST)["domain_ocid"]}
    changes_nothing(fresh, **FROM_AWS, trusted_clients=["second_client"])
    changes_nothing(second, **adopting)
    fresh.apply(**FROM_AWS)
    assert "its clients must include second_client" in told(second.run(("plan", None), **adopting))
    say(second, resource_type="other", audience="other")
    text = told(second.run(("plan", None), **{**adopting, "aws_token_issuer": ISSUER.replace("0", "1")}))
    for complaint in ("it must be active, and for", "and resource_type: lockstep", "with other as aud"):
        assert complaint in text


def test_a_trial_is_removed_and_deployed_again(fresh: Stack) -> None:
    first = fresh.apply(**FROM_AWS)
    override = fresh.folder / "trial_override.tf"
    shutil.copyfile(CONFIGURATION / "trial_override.tf.example", override)
    assert "Instance cannot be destroyed" in told(fresh.run(("destroy", None), **FROM_AWS))
    delete_application(fresh)
    succeeded(fresh.run(("destroy", None), **FROM_AWS))
    override.unlink()
    left = {
        r["type"] for r in tenancy.read(fresh.tenancy)["resources"].values() if r["lifecycle"] == "ACTIVE"
    }
    assert left == {"oci_identity_compartment"}
    assert kinds(fresh.apply(**FROM_AWS)) == kinds(first)
