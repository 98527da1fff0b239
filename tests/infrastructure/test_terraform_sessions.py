"""Who the runners are in the other cloud: users with keys, sessions, OCI's issuer. And what is there is adopted."""

import json

import pytest
from msgspec import structs

from lockstep.plan.compiled import ClientKey, FederationToAws, FederationToOci
from lockstep.protocol.federation import place_of
from tests.infrastructure.terraform import case
from tests.infrastructure.terraform.case import Document, Stack, sessions, with_image

pytestmark = case.needs_tools

APP, TRUST = "oci_identity_domains_app", "oci_identity_domains_identity_propagation_trust"
ALIAS, USER = "oci_identity_domains_oauth_client_certificate", "oci_identity_domains_user"
OF_KEYS = {
    f"oci_identity_{kind}"
    for kind in ("user", "group", "user_group_membership", "user_capabilities_management")
}
READER = "lockstep-aws-reader"
BUCKETS, KEYS = "oci_objectstorage_bucket", "oci_kms_key"


@pytest.fixture(name="new")
def _new() -> Stack:
    """Before its first deployment."""
    return case.with_sessions()


def say(stack: Stack, **changes: object) -> None:
    stack.plan["runners"]["aws"]["federation"].update(changes)


def require(refused: str, *complaints: str) -> None:
    """All of this is told."""
    assert [complaint for complaint in complaints if complaint not in refused] == []


def compiled(stack: Stack) -> tuple[FederationToOci, FederationToAws]:
    found = stack.parsed.compiled
    assert isinstance(found.to_oci, FederationToOci)
    assert isinstance(found.to_aws, FederationToAws)
    return found.to_oci, found.to_aws


def test_one_key_is_for_one_user_and_a_reader_is_a_user_of_its_own() -> None:
    stack = Stack(plan=case.plan_document())
    stack.plan["runners"]["aws"] = {**case.KEY_OF_AWS, "oci_reader_key_secret": "lockstep/oci-reader-key"}
    pair = stack.apply()
    users = {u["id"]: u["name"] for u in pair.all("oci_identity_user").values()}
    groups = {ocid: name for name, ocid in pair.groups.items()}
    members = pair.all("oci_identity_user_group_membership").values()
    assert {(users[m["user_id"]], groups[m["group_id"]]) for m in members} == {
        (READER, READER),
        (case.AWS, case.AWS),
    }
    assert [users[pair.outputs[f"aws_{who}"]["user"]] for who in ("runner", "reader")] == [case.AWS, READER]
    for capabilities in pair.all("oci_identity_user_capabilities_management").values():
        allowed = [n for n, value in capabilities.items() if n.startswith("can_use_") and value]
        assert allowed == ["can_use_api_keys"]
    assert not {"SECRET_UPDATE", "SECRET_CREATE"} & pair.may(READER)


# ---- sessions of the functions in AWS


def test_the_application_and_the_trust_are_the_plans_without_a_key() -> None:
    stack, _, deployed = sessions()
    assert not deployed.kinds & OF_KEYS
    assert "aws_runner" not in deployed.outputs
    app, alias, (to_oci, _) = deployed.one(APP), deployed.one(ALIAS), compiled(stack)
    assert isinstance(to_oci.client, ClientKey)
    assert (app["name"], app["client_type"]) == (to_oci.client_id, "trusted")
    assert app["allowed_grants"] == ["client_credentials"]
    assert [c["cert_alias"] for c in app["certificates"]] == [to_oci.client.certificate]
    assert alias["certificate_alias"] == to_oci.client.certificate
    assert alias["x509base64certificate"] == "".join(case.CERTIFICATE.splitlines()[1:-1])
    wanted: Document = {
        "idcs_endpoint": to_oci.domain_url,
        "issuer": case.TOKENS,
        "public_key_endpoint": f"{case.TOKENS}/.well-known/jwks.json",
        "subject_type": "Resource",
        "subject_claim_name": "sub",
        "client_claim_name": "aud",
        "client_claim_values": [to_oci.audience],
        "impersonating_resource": to_oci.resource_type,
        "oauth_clients": [to_oci.client_id],
    }
    assert deployed.one(TRUST).items() >= wanted.items()
    # The outputs are the sections of the plan.
    changed = stack.copy()
    changed.plan["runners"]["aws"]["federation"] = deployed.outputs["runners_aws_federation"]
    assert compiled(changed) == compiled(stack)


def test_sessions_of_users_have_one_for_each_function_and_a_secret_needs_no_certificate(new: Stack) -> None:
    say(new, token="upst", kms_key=None, certificate=None, client_secret="lockstep/oci-client-secret")
    made = new.apply(aws_token_issuer=case.TOKENS, aws_role_arns=case.ROLES)
    assert (made.one(APP)["client_type"], made.one(APP)["certificates"]) == ("confidential", [])
    assert not made.all(ALIAS)
    trust, users = made.one(TRUST), made.all(USER)
    assert (trust["subject_type"], trust["impersonating_resource"]) == ("User", None)
    rules = {(u["rule"], u["value"]) for u in trust["impersonation_service_users"]}
    assert rules == {
        (f"sub eq '{case.ROLES[step]}'", users[f'aws_function["{step}"]']["id"]) for step in case.ROLES
    }
    granted = {s.about["request.user.id"] for s in made.policy if "request.user.id" in s.about}
    assert granted == {u["ocid"] for u in users.values()}


def test_terraform_comes_first_then_the_stack_in_aws_then_terraform_again(new: Stack) -> None:
    first = new.apply()
    assert not first.kinds & {APP, TRUST, ALIAS, *OF_KEYS}
    new.name_made(first.outputs)
    missing = ("aws_token_issuer", "aws_role_arns with generate, apply_db", "aws_client_certificate")
    require(new.refused(**with_image()), *missing)
    wrong: Document = {
        "aws_token_issuer": "https://sts.amazonaws.com",
        "aws_role_arns": {"generate": "arn:aws:iam::123456789012:user/x", "prove": "' or 'a' = 'a"},
        "aws_client_certificate": "-----BEGIN PRIVATE KEY-----",
    }
    must = ("be an address such as", "be named by step", "be ARNs of roles", "be one certificate")
    require(new.refused(**wrong), *(f" must {words}" for words in must))
    same = {**case.FROM_AWS, "aws_role_arns": dict.fromkeys(case.ROLES, case.ROLES["digest"])}
    require(new.refused(**same), "a role of its own for each step")


def test_the_user_and_the_issuer_can_stay_beside_what_takes_their_place(new: Stack) -> None:
    both = new.apply(**case.FROM_AWS, keep_api_keys=["writer"])
    assert both.kinds & OF_KEYS == OF_KEYS
    new.plan["runners"] = {"aws": dict(case.KEY_OF_AWS), "oci": {"aws_key_secret": "lockstep/aws-key"}}
    new.name_made(new.apply().outputs)
    keys = new.apply(**with_image(keep_issuer=case.ISSUER))
    texts = [{s.text for s in one.of(case.AWS)} for one in (both, keys)]
    assert texts[0] == texts[1] != set()
    assert {s.subject for s in keys.policy if "KEY_SIGN" in s.permissions} == {keys.groups[case.DIGEST]}
    assert all(keys.all(kind)["issuer[0]"] == both.all(kind)["issuer[0]"] for kind in (KEYS, BUCKETS))


def test_a_second_stack_adopts_the_trust_of_its_account(new: Stack) -> None:
    first = new.apply(**case.FROM_AWS, trusted_clients=["second_client"]).one(TRUST)
    # Without a standby the digest needs nothing in OCI.
    del new.plan["runners"]["oci"]
    roles = {step: arn for step, arn in case.ROLES.items() if step != "digest"}
    say(new, client_id="second_client")
    adopting = {**case.FROM_AWS, "name": "second", "aws_trust_id": "trust", "aws_role_arns": roles}
    new.there[f"{TRUST}.adopted"] = first
    second = new.apply(**adopting)
    assert (second.all(TRUST), second.one(APP)["name"]) == ({}, "second_client")
    named = {
        (s.about["request.principal.domain.id"], s.about["request.principal.name"])
        for s in second.policy
        if s.about
    }
    assert named == {(first["domain_ocid"], role) for role in roles.values()}
    other = {"oauth_clients": [], "impersonating_resource": "x", "client_claim_values": ["x"]}
    new.there[f"{TRUST}.adopted"] = {**first, **other}
    refused = new.refused(**adopting)
    require(refused, "must include second_client", "and the trust lockstep, not x", "with lockstep as aud")


# ---- the issuer of the function's tokens for AWS: a key that signs, and a public bucket with its documents


def test_anybody_reads_the_documents_nobody_lists_them_and_the_key_signs_for_the_functions_alone() -> None:
    stack, _, deployed = sessions()
    bucket, key = deployed.all(BUCKETS)["issuer[0]"], deployed.all(KEYS)["issuer[0]"]
    assert (bucket["name"], bucket["namespace"]) == (case.ISSUER, "tenant")
    assert (bucket["access_type"], bucket["versioning"]) == ("ObjectReadWithoutList", "Enabled")
    # 2,048 bits, in hardware whatever the other keys are.
    assert [(s["algorithm"], s["length"]) for s in key["key_shape"]] == [("RSA", 256)]
    assert key["protection_mode"] == "HSM"
    # There is no secret with an access key.
    assert set(deployed.outputs["secrets_to_fill_in"]) == {"lockstep.admin.orders", "lockstep.admin.reports"}
    # The function that makes digests reads those of AWS by such a session.
    granted = [s for s in deployed.policy if s.targets == {"target.key.id": {key["id"]}}]
    assert {s.subject for s in granted} == {deployed.groups[name] for name in (case.OCI, case.DIGEST)}
    assert {s.permissions for s in granted} == {frozenset({"KEY_SIGN"})}
    # The output is the section of the plan, and another key is refused.
    (_, to_aws), (_, before) = compiled(stack), compiled(case.with_sessions())
    assert (to_aws.key.id, to_aws.key.version) == (key["id"], key["current_key_version"])
    assert to_aws.key.endpoint == deployed.one("oci_kms_vault")["crypto_endpoint"]
    assert structs.replace(to_aws, key=before.key) == before
    changed = stack.copy()
    named = changed.plan["runners"]["oci"]["federation"]["key"]
    made = dict(named)
    named |= {"id": "ocid1.key.oc1.eu-frankfurt-1.other", "endpoint": "https://elsewhere"}
    wanted = (f"oci.federation.key.{p} in the plan: {made[p]} is expected." for p in ("id", "endpoint"))
    require(changed.refused(**with_image(**case.FROM_AWS)), *wanted)
    # A version that is not the newest: it signs until the plan goes on to the next.
    named |= {**made, "version": "ocid1.keyversion.oc1.eu.earlier"}
    changed.apply(**with_image(**case.FROM_AWS))


def test_another_issuer_is_refused_with_the_right_one_unless_it_is_adopted(new: Stack) -> None:
    right = "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/tenant/b/lockstep-issuer/o"
    federation = new.plan["runners"]["oci"]["federation"]
    federation["issuer"] = right.replace("tenant", "other")
    require(new.refused(), f"runners.oci.federation.issuer in the plan: {right} is expected")
    elsewhere = new.apply(adopt_issuer=True)
    assert "issuer[0]" not in elsewhere.all(BUCKETS)
    assert elsewhere.all(KEYS)["issuer[0]"]
    # The bucket is the one that the command writes.
    host = "tenant.objectstorage.eu-frankfurt-1.oci.customer-oci.com"
    federation["issuer"] = f"https://{host}/n/tenant/b/of-ours/o/standby"
    place = place_of(federation["issuer"])
    assert place
    assert place.bucket in {b["name"] for b in new.apply().all(BUCKETS).values()}


# ---- what exists in a tenancy

OWN, VAULT = "ocid1.compartment.oc1..platform", "ocid1.vault.oc1.eu-frankfurt-1.estate"
EVERYTHING: Document = {
    "compartment_ocid": OWN,
    "vault_ocid": VAULT,
    "secrets_key_ocid": "ocid1.key.oc1.eu-frankfurt-1.secrets",
    "audit_key_ocid": "ocid1.key.oc1.eu-frankfurt-1.audit",
    "topic_ocid": "ocid1.onstopic.oc1.eu-frankfurt-1.ops",
}


def test_everything_is_adopted_at_once() -> None:
    """What others made: data sources find it."""
    elsewhere = "ocid1.compartment.oc1..shared"
    there = {
        "oci_kms_vault.adopted": {
            "management_endpoint": "https://estate",
            "crypto_endpoint": "https://estate",
        },
        "oci_ons_notification_topic.adopted": {"compartment_id": elsewhere},
    }
    estate = Stack(plan=case.plan_document(), there=there)
    estate.name_made(estate.apply(**EVERYTHING).outputs)
    assert (estate.store["vault_id"], estate.store["own_compartment_id"]) == (VAULT, OWN)
    made = estate.apply(**with_image(**EVERYTHING))
    text = json.dumps(dict(made.resources))
    assert [ocid for ocid in EVERYTHING.values() if ocid not in text] == []
    kinds = ("identity_compartment", "kms_vault", "ons_notification_topic")
    assert not made.kinds & {f"oci_{kind}" for kind in kinds}
    # Each stack signs its digests with a key of its own.
    assert list(made.all(KEYS)) == ["digests[0]"]
    # The topic is in a compartment of others: the policies go there, and cover nothing else in it.
    granted = {s.permissions for s in made.policy if s.compartment == elsewhere}
    assert granted == {frozenset({"ONS_TOPIC_PUBLISH"})}


def test_nobody_gets_permissions_in_a_compartment_with_secrets_of_others() -> None:
    estate = Stack(plan=case.plan_document())
    stranger = {"secret_name": "payroll", "vault_id": VAULT, "state": "ACTIVE", "id": "x"}
    estate.name_made(estate.apply(compartment_ocid=OWN).outputs)
    estate.there["oci_vault_secrets.own"] = {"secrets": [stranger]}
    refused = estate.refused(**with_image(compartment_ocid=OWN))
    require(refused, "list them in retired_secrets: payroll.")
    # Below the rings' compartment, by two levels.
    rings, between = "ocid1.compartment.oc1..aaaa", "ocid1.compartment.oc1..between"
    active = {"description": "", "state": "ACTIVE", "name": "x"}
    found = [{**active, "id": i, "compartment_id": of} for i, of in ((OWN, between), (between, rings))]
    estate.there["oci_identity_compartments.all"] = {"compartments": found}
    estate.there["oci_vault_secrets.rings"] = {"secrets": [stranger]}
    below = "it must not be the compartment of the rings (compartment_id in the plan), or below it"
    refused = estate.refused(compartment_ocid=OWN)
    require(refused, below, "list them in retired_slots: payroll.")
    # One of others with the same name is not taken.
    mine = {**active, "id": "x", "name": "lockstep", "compartment_id": "ocid1.tenancy.oc1..aaaa"}
    estate.there["oci_identity_compartments.all"] = {"compartments": [{**mine, "description": "Mine."}]}
    taken = "A compartment with the name lockstep exists there, and Lockstep has not made it"
    require(estate.refused(), taken)
