"""Who the runners are in the other cloud: users with keys, sessions of the functions in AWS, and OCI's issuer."""

import pytest
from msgspec import structs

from lockstep.plan.compiled import ClientKey, FederationToAws, FederationToOci
from lockstep.protocol.federation import place_of
from sandbox.identities import DIGEST_READER_MAY, READERS_MAY, RUNNERS_MAY
from tests.infrastructure.terraform.case import (
    AWS,
    CERTIFICATE,
    DIGEST,
    FROM_AWS,
    ISSUER,
    KEY_OF_AWS,
    OCI,
    ROLES,
    TOKENS,
    Deployment,
    Document,
    Stack,
    needs_tools,
    plan_document,
    sessions,
    with_image,
    with_sessions,
)

pytestmark = needs_tools

APP, TRUST = "oci_identity_domains_app", "oci_identity_domains_identity_propagation_trust"
ALIAS, USER = "oci_identity_domains_oauth_client_certificate", "oci_identity_domains_user"
OF_KEYS = {
    f"oci_identity_{kind}"
    for kind in ("user", "group", "user_group_membership", "user_capabilities_management")
}
READER = "lockstep-aws-reader"
BUCKETS, KEYS = "oci_objectstorage_bucket", "oci_kms_key"


@pytest.fixture(name="shared")
def _shared() -> tuple[Stack, Deployment]:
    return sessions()


@pytest.fixture(name="new")
def _new() -> Stack:
    """Before its first deployment."""
    return with_sessions()


def say(stack: Stack, **changes: object) -> None:
    stack.plan["runners"]["aws"]["federation"].update(changes)


def compiled(stack: Stack) -> tuple[FederationToOci, FederationToAws]:
    found = stack.parsed.compiled
    assert isinstance(found.to_oci, FederationToOci)
    assert isinstance(found.to_aws, FederationToAws)
    return found.to_oci, found.to_aws


# ---- users with keys, which Terraform does not rotate


def test_one_key_is_for_one_user_and_a_reader_is_a_user_of_its_own(deployed: Deployment) -> None:
    assert [u["name"] for u in deployed.all("oci_identity_user").values()] == [AWS]
    assert "aws_reader" not in deployed.outputs
    two = {**KEY_OF_AWS, "oci_reader_key_secret": "lockstep/oci-reader-key"}
    stack = Stack(plan=plan_document())
    stack.plan["runners"]["aws"] = two
    pair = stack.apply()
    users = {u["id"]: u["name"] for u in pair.all("oci_identity_user").values()}
    groups = {ocid: name for name, ocid in pair.groups.items()}
    members = pair.all("oci_identity_user_group_membership").values()
    assert {(users[m["user_id"]], groups[m["group_id"]]) for m in members} == {(READER, READER), (AWS, AWS)}
    told = [users[pair.outputs[output]["user"]] for output in ("aws_runner", "aws_reader")]
    assert told == [AWS, READER]
    for capabilities in pair.all("oci_identity_user_capabilities_management").values():
        allowed = [n for n, value in capabilities.items() if n.startswith("can_use_") and value]
        assert allowed == ["can_use_api_keys"]
    rings, own = stack.store["compartment_id"], pair.outputs["own_compartment_id"]
    may = [pair.may(user, place) for user in (AWS, READER) for place in (rings, own)]
    assert may == [{*RUNNERS_MAY}, set(), {*READERS_MAY}, {*DIGEST_READER_MAY}]


# ---- sessions of the functions in AWS


def test_the_application_and_the_trust_are_the_plans_without_a_key(
    shared: tuple[Stack, Deployment],
) -> None:
    stack, deployed = shared
    assert not deployed.kinds & OF_KEYS
    assert "aws_runner" not in deployed.outputs
    app, alias, (to_oci, _) = deployed.one(APP), deployed.one(ALIAS), compiled(stack)
    assert isinstance(to_oci.client, ClientKey)
    assert (app["name"], app["client_type"]) == (to_oci.client_id, "trusted")
    assert app["allowed_grants"] == ["client_credentials"]
    assert [c["cert_alias"] for c in app["certificates"]] == [to_oci.client.certificate]
    assert alias["certificate_alias"] == to_oci.client.certificate
    assert alias["x509base64certificate"] == "".join(CERTIFICATE.splitlines()[1:-1])
    wanted: Document = {
        "idcs_endpoint": to_oci.domain_url,
        "issuer": TOKENS,
        "public_key_endpoint": f"{TOKENS}/.well-known/jwks.json",
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
    made = new.apply(aws_token_issuer=TOKENS, aws_role_arns=ROLES)
    assert (made.one(APP)["client_type"], made.one(APP)["certificates"]) == ("confidential", [])
    assert not made.all(ALIAS)
    trust, users = made.one(TRUST), made.all(USER)
    assert (trust["subject_type"], trust["impersonating_resource"]) == ("User", None)
    rules = {(u["rule"], u["value"]) for u in trust["impersonation_service_users"]}
    assert rules == {(f"sub eq '{ROLES[step]}'", users[f'aws_function["{step}"]']["id"]) for step in ROLES}
    for user in users.values():
        assert user["urnietfparamsscimschemasoracleidcsextensionuser_user"] == [{"service_user": True}]
    granted = {s.about["request.user.id"] for s in made.policy if "request.user.id" in s.about}
    assert granted == {u["ocid"] for u in users.values()}


def test_terraform_comes_first_then_the_stack_in_aws_then_terraform_again(new: Stack) -> None:
    first = new.apply()
    assert not first.kinds & {APP, TRUST, ALIAS, *OF_KEYS}
    assert "runners_aws_federation" not in first.outputs
    new.name_made(first.outputs)
    refused = new.refused(**with_image())
    for missing in ("aws_token_issuer", "aws_role_arns with generate, apply_db", "aws_client_certificate"):
        assert missing in refused


def test_without_a_standby_the_digest_needs_nothing_in_oci(new: Stack) -> None:
    del new.plan["runners"]["oci"]
    roles = {step: arn for step, arn in ROLES.items() if step != "digest"}
    made = new.apply(**{**FROM_AWS, "aws_role_arns": roles})
    assert {s.about.get("request.principal.name") for s in made.policy} - {None} == set(roles.values())


def test_wrong_variables_are_refused_with_a_reason(new: Stack) -> None:
    say(new, client_id="lockstep-client")
    text = new.refused(
        aws_token_issuer="https://sts.amazonaws.com",
        aws_role_arns={"generate": "arn:aws:iam::123456789012:user/x", "prove": "' or 'a' = 'a"},
        aws_client_certificate="-----BEGIN PRIVATE KEY-----",
        keep_api_keys=["admin"],
    )
    assert "aws_token_issuer must be an address such as" in text
    assert "aws_role_arns must be named by step" in text
    assert "aws_role_arns must be ARNs of roles" in text
    assert "aws_client_certificate must be one certificate" in text
    assert "keep_api_keys must be writer, reader, or both" in text
    same = {**FROM_AWS, "aws_role_arns": dict.fromkeys(ROLES, ROLES["digest"])}
    assert "a role of its own for each step" in new.refused(**same)
    assert "It must be letters, digits and underscores" in new.refused(**FROM_AWS)


def test_the_user_can_stay_beside_the_sessions(new: Stack, shared: tuple[Stack, Deployment]) -> None:
    both = new.apply(**FROM_AWS, keep_api_keys=["writer"])
    assert both.kinds & OF_KEYS == OF_KEYS
    assert both.kinds - OF_KEYS <= shared[1].kinds
    new.plan["runners"]["aws"] = dict(KEY_OF_AWS)
    keys = new.apply()
    assert both.outputs["aws_runner"] == keys.outputs["aws_runner"]
    texts = [{s.text for s in one.of(AWS)} for one in (both, keys)]
    assert texts[0] == texts[1] != set()


def test_a_second_stack_adopts_the_trust_of_its_account(new: Stack) -> None:
    first = new.apply(**FROM_AWS, trusted_clients=["second_client"]).one(TRUST)
    say(new, client_id="second_client")
    adopting = {**FROM_AWS, "name": "second", "aws_trust_id": "trust"}
    new.there[f"{TRUST}.adopted"] = first
    second = new.apply(**adopting)
    assert not second.all(TRUST)
    assert second.one(APP)["name"] == "second_client"
    domains = {s.about["request.principal.domain.id"] for s in second.policy if s.about}
    assert domains == {first["domain_ocid"]}
    other = {"oauth_clients": [], "impersonating_resource": "x", "client_claim_values": ["x"]}
    new.there[f"{TRUST}.adopted"] = {**first, **other}
    text = new.refused(**{**adopting, "aws_token_issuer": TOKENS.replace("0", "1")})
    for complaint in (
        "its clients must include second_client",
        "it must be active, and for",
        "and the trust lockstep, not x",
        "with lockstep as aud",
    ):
        assert complaint in text


# ---- the issuer of the function's tokens for AWS: a key that signs, and a public bucket with its documents


def test_anybody_reads_the_documents_nobody_lists_them_and_the_key_cannot_be_exported(
    shared: tuple[Stack, Deployment], new: Stack
) -> None:
    stack, deployed = shared
    bucket, key = deployed.all(BUCKETS)["issuer[0]"], deployed.all(KEYS)["issuer[0]"]
    assert (bucket["name"], bucket["namespace"]) == (ISSUER, "tenant")
    assert (bucket["access_type"], bucket["versioning"]) == ("ObjectReadWithoutList", "Enabled")
    assert bucket["compartment_id"] == stack.store["own_compartment_id"]
    # 2,048 bits.
    assert [(s["algorithm"], s["length"]) for s in key["key_shape"]] == [("RSA", 256)]
    protections = {n: k["protection_mode"] for n, k in new.apply(key_protection="SOFTWARE").all(KEYS).items()}
    others = dict.fromkeys(("secrets[0]", "audit[0]"), "SOFTWARE")
    assert protections == {**others, "issuer[0]": "HSM", "digests[0]": "HSM"}
    # There is no secret with an access key.
    assert set(deployed.outputs["secrets_to_fill_in"]) == {"lockstep.admin.orders", "lockstep.admin.reports"}
    # The functions sign with this key alone.
    granted = [s for s in deployed.policy if s.targets == {"target.key.id": {key["id"]}}]
    # The function that makes digests reads those of AWS by such a session.
    assert {s.subject for s in granted} == {deployed.groups[name] for name in (OCI, DIGEST)}
    assert {s.permissions for s in granted} == {frozenset({"KEY_SIGN"})}


def test_the_output_is_the_section_of_the_plan_and_another_key_is_refused(
    shared: tuple[Stack, Deployment], new: Stack
) -> None:
    stack, deployed = shared
    (_, to_aws), (_, before) = compiled(stack), compiled(new)
    key, vault = deployed.all(KEYS)["issuer[0]"], deployed.one("oci_kms_vault")
    assert (to_aws.key.id, to_aws.key.version) == (key["id"], key["current_key_version"])
    assert to_aws.key.endpoint == vault["crypto_endpoint"]
    assert structs.replace(to_aws, key=before.key) == before
    changed = stack.copy()
    named = changed.plan["runners"]["oci"]["federation"]["key"]
    made = dict(named)
    named |= {"id": "ocid1.key.oc1.eu-frankfurt-1.other", "endpoint": "https://elsewhere"}
    refused = changed.refused(**with_image(**FROM_AWS))
    for part in ("id", "endpoint"):
        assert f"runners.oci.federation.key.{part} in the plan: {made[part]} is expected." in refused
    # A version that is not the newest: it signs until the plan goes on to the next.
    named |= {**made, "version": "ocid1.keyversion.oc1.eu.earlier"}
    changed.apply(**with_image(**FROM_AWS))


RIGHT = "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/tenant/b/lockstep-issuer/o"


@pytest.mark.parametrize(
    "issuer",
    [
        RIGHT.replace("tenant", "other"),
        RIGHT.replace("eu-frankfurt-1", "us-ashburn-1"),
        "https://issuer.example.com/lockstep",
    ],
)
def test_another_issuer_is_refused_with_the_right_one_unless_it_is_adopted(issuer: str, new: Stack) -> None:
    new.plan["runners"]["oci"]["federation"]["issuer"] = issuer
    assert f"runners.oci.federation.issuer in the plan: {RIGHT} is expected" in new.refused()
    elsewhere = new.apply(adopt_issuer=True)
    assert "issuer[0]" not in elsewhere.all(BUCKETS)
    assert elsewhere.all(KEYS)["issuer[0]"]


def test_the_bucket_is_the_one_that_the_command_writes(new: Stack) -> None:
    host = "tenant.objectstorage.eu-frankfurt-1.oci.customer-oci.com"
    issuer = f"https://{host}/n/tenant/b/of-ours/o/standby"
    new.plan["runners"]["oci"]["federation"]["issuer"] = issuer
    place = place_of(issuer)
    assert place is not None
    assert place.bucket == "of-ours"
    assert "of-ours" in {b["name"] for b in new.apply().all(BUCKETS).values()}


def test_the_issuer_can_be_there_before_the_function_uses_it(new: Stack) -> None:
    keyless = new.apply(**FROM_AWS)
    new.plan["runners"]["oci"] = {"aws_key_secret": "lockstep/aws-key"}
    without = new.apply(**FROM_AWS).outputs
    assert "runners_oci_federation" not in without
    new.name_made(without)
    both = new.apply(**with_image(keep_issuer=ISSUER, **FROM_AWS))
    signing = {s.subject for s in both.policy if "KEY_SIGN" in s.permissions}
    assert signing == {both.groups[DIGEST]}
    for kind in (KEYS, BUCKETS):
        assert both.all(kind)["issuer[0]"] == keyless.all(kind)["issuer[0]"]
    made, asked = (one.outputs["runners_oci_federation"] for one in (both, keyless))
    assert {**made, "role_arn": asked["role_arn"]} == asked
