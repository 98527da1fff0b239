"""The issuer of the function's tokens for AWS: a key that signs, and a public bucket with its documents."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from lockstep.oci.kms import sign
from lockstep.plan.compiled import FederationToAws
from lockstep.plan.file import parse_plan
from lockstep.protocol.errors import SessionFailure
from lockstep.protocol.federation import IssuerKey, place_of
from sandbox import plans
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.keys import Key
from tests.contract.oci_fixtures import sandbox_clients
from tests.infrastructure.terraform.policies import Statement, allowed, statements
from tests.infrastructure.terraform.stack import (
    Deployment,
    Document,
    Stack,
    needs_tools,
    plan_document,
    with_image,
)
from tests.infrastructure.terraform.world import of, permissions

pytestmark = needs_tools

BUCKET = "lockstep-issuer"
FUNCTION = "oci_functions_function"
WRITING = {"OBJECT_CREATE", "OBJECT_OVERWRITE", "OBJECT_DELETE", "OBJECT_VERSION_DELETE", "BUCKET_UPDATE"}
KEY = "ocid1.key.oc1.eu-frankfurt-1.estate"
VAULT = "ocid1.vault.oc1.eu-frankfurt-1.estate"


def issuing(**changes: object) -> Document:
    """A plan whose function has sessions in AWS."""
    document = plan_document()
    document["runners"]["oci"] = {"federation": {**plans.TO_AWS, **changes}}
    return document


@pytest.fixture(name="shared", scope="module")
def _shared() -> tuple[Stack, Deployment]:
    stack = Stack(plan=issuing())
    outputs = stack.apply().outputs
    stack.name_made(outputs)
    paste(stack, outputs)
    return stack, stack.apply(**with_image())


@pytest.fixture(name="fresh")
def _fresh() -> Stack:
    """One for a test that changes its plan."""
    return Stack(plan=issuing())


@pytest.fixture(name="policy", scope="module")
def _policy(shared: tuple[Stack, Deployment]) -> list[Statement]:
    return statements(shared[1])


def paste(stack: Stack, outputs: Mapping[str, Document]) -> None:
    """Write the output into the plan, as an operator does."""
    stack.plan["runners"]["oci"]["federation"] = outputs["runners_oci_federation"]


# ---- what is made


def test_anybody_reads_the_documents_and_nobody_lists_them(shared: tuple[Stack, Deployment]) -> None:
    stack, deployment = shared
    bucket = deployment.all("oci_objectstorage_bucket")["issuer[0]"]
    assert (bucket["name"], bucket["namespace"]) == (BUCKET, "tenant")
    assert (bucket["access_type"], bucket["versioning"]) == ("ObjectReadWithoutList", "Enabled")
    assert bucket["compartment_id"] == stack.store["own_compartment_id"]


def test_the_key_signs_and_cannot_be_exported(shared: tuple[Stack, Deployment]) -> None:
    key = shared[1].all("oci_kms_key")["issuer[0]"]
    assert key["protection_mode"] == "HSM"
    [shape] = key["key_shape"]
    # 2,048 bits.
    assert (shape["algorithm"], shape["length"]) == ("RSA", 256)


def test_the_key_is_in_an_hsm_whatever_the_others_are(fresh: Stack) -> None:
    keys = fresh.apply(key_protection="SOFTWARE").all("oci_kms_key")
    assert {name: key["protection_mode"] for name, key in keys.items()} == {
        "secrets[0]": "SOFTWARE",
        "audit[0]": "SOFTWARE",
        "issuer[0]": "HSM",
        "digests[0]": "HSM",
    }


def test_there_is_no_secret_with_an_access_key(shared: tuple[Stack, Deployment]) -> None:
    assert set(shared[1].outputs["secrets_to_fill_in"]) == {"lockstep.admin.orders", "lockstep.admin.reports"}


def test_the_function_may_sign_with_this_key_alone(
    shared: tuple[Stack, Deployment], policy: list[Statement]
) -> None:
    stack, deployment = shared
    issuer = {"target.key.id": {deployment.all("oci_kms_key")["issuer[0]"]["id"]}}
    keys = [s for s in policy if any(p.startswith("KEY_") for p in s.permissions)]
    [granted] = [s for s in of("lockstep-oci-runner", policy, deployment) if s in keys]
    # The function that makes digests reads those of AWS by such a session.
    [digest] = [s for s in of("lockstep-oci-digest", policy, deployment) if s in keys and s.targets == issuer]
    assert {s.text for s in keys if s.targets == issuer} == {granted.text, digest.text}
    for statement in (granted, digest):
        assert statement.permissions == {"KEY_SIGN"}
        assert statement.compartment == stack.store["own_compartment_id"]


@pytest.mark.parametrize("without", [False, True])
def test_the_function_signs_with_exactly_that(
    without: bool,  # noqa: FBT001 - a case
    shared: tuple[Stack, Deployment],
    policy: list[Statement],
) -> None:
    stack, deployment = shared
    with OciSandbox() as sandbox:
        own, other = (sandbox.keys.new_key(sandbox.own_compartment_id, sandbox.vault_id) for _ in range(2))
        ids = {
            deployment.all("oci_kms_key")["issuer[0]"]["id"]: own.ocid,
            stack.store["own_compartment_id"]: sandbox.own_compartment_id,
        }
        grants = set().union(*(s.grants(ids) for s in of("lockstep-oci-runner", policy, deployment)))
        config = sandbox.new_api_key("function")
        sandbox.identity.principal("function").grants = {
            grant for grant in grants if not without or grant.permission != "KEY_SIGN"
        }
        clients = sandbox_clients(sandbox, config)

        def signature(key: Key) -> bytes:
            named = IssuerKey(id=key.ocid, version=key.current.ocid, endpoint="https://unused")
            return sign(clients, named, hashlib.sha256(b"token").digest(), endpoint=sandbox.endpoint)

        for key in [other, *([own] if without else [])]:
            with pytest.raises(SessionFailure):
                signature(key)
        if not without:
            own.current.public_key.verify(signature(own), b"token", padding.PKCS1v15(), hashes.SHA256())


def test_no_policy_lets_anybody_write_the_documents(
    shared: tuple[Stack, Deployment], policy: list[Statement]
) -> None:
    stack, deployment = shared
    groups = [
        g["id"]
        for kind in ("oci_identity_group", "oci_identity_dynamic_group")
        for g in deployment.all(kind).values()
    ]
    request = {
        "compartment": [stack.store["own_compartment_id"]],
        "subject": groups,
        "target.bucket.name": [BUCKET],
    }
    assert not [p for p in WRITING if allowed(policy, p, request)]
    assert WRITING & permissions([s for s in policy if not s.verb]) == {"OBJECT_CREATE"}


def test_deny_policies_take_it_from_storage_administrators(
    shared: tuple[Stack, Deployment],
) -> None:
    stack = shared[0]
    group = "ocid1.group.oc1..breakglass"
    variables = with_image(audit_deny_policies=True, audit_break_glass_group_ocid=group)
    own = stack.store["own_compartment_id"]
    policy = statements(stack.apply(**variables))
    administrators = Statement(
        text="",
        denies=False,
        subject="ocid1.group.oc1..storage",
        permissions=frozenset({*WRITING, "OBJECT_READ"}),
        verb=None,
        resource_type=None,
        compartment=own,
        targets={},
        others={},
    )

    def may(*groups: str, bucket: str = BUCKET) -> set[str]:
        request = {
            "compartment": [own],
            "subject": [administrators.subject],
            "target.bucket.name": [bucket],
            "request.groups.id": [administrators.subject, *groups],
            "request.principal.type": ["user"],
            "request.principal.id": ["ocid1.user.oc1..someone"],
        }
        return {p for p in administrators.permissions if allowed([*policy, administrators], p, request)}

    assert may() == {"OBJECT_READ"}
    assert may(group) == may(bucket="other") == administrators.permissions


# ---- the plan, before and after the first apply


def test_the_output_is_the_section_of_the_plan(shared: tuple[Stack, Deployment]) -> None:
    stack, deployment = shared
    to_aws = parse_plan(json.dumps(stack.plan), base=Path()).compiled.to_aws
    assert isinstance(to_aws, FederationToAws)
    key, vault = deployment.all("oci_kms_key")["issuer[0]"], deployment.one("oci_kms_vault")
    assert (to_aws.key.id, to_aws.key.version) == (key["id"], key["current_key_version"])
    assert to_aws.key.endpoint == vault["crypto_endpoint"]
    first = parse_plan(json.dumps(issuing()), base=Path()).compiled.to_aws
    assert isinstance(first, FederationToAws)
    assert (to_aws.issuer, to_aws.audience, to_aws.subject, to_aws.role_arn) == (
        first.issuer,
        first.audience,
        first.subject,
        first.role_arn,
    )


def test_a_function_whose_plan_names_another_key_is_refused(fresh: Stack) -> None:
    outputs = fresh.apply().outputs
    fresh.name_made(outputs)
    refused = fresh.refused(**with_image())
    made = outputs["runners_oci_federation"]["key"]
    for name in ("id", "endpoint"):
        expected = f"runners.oci.federation.key.{name} in the plan: {made[name]} is expected."
        assert expected in refused
    paste(fresh, outputs)
    # A version that is not the newest: it signs until the plan goes on to the next.
    fresh.plan["runners"]["oci"]["federation"]["key"]["version"] = "ocid1.keyversion.oc1.eu.earlier"
    fresh.apply(**with_image())


@pytest.mark.parametrize(
    "issuer",
    [
        "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/other/b/lockstep-issuer/o",
        "https://objectstorage.us-ashburn-1.oraclecloud.com/n/tenant/b/lockstep-issuer/o",
        "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/tenant/b/lockstep-issuer",
        "https://issuer.example.com/lockstep",
    ],
)
def test_another_issuer_is_refused_with_the_right_one(issuer: str, fresh: Stack) -> None:
    fresh.plan["runners"]["oci"]["federation"]["issuer"] = issuer
    refused = fresh.refused()
    right = "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/tenant/b/lockstep-issuer/o"
    assert f"runners.oci.federation.issuer in the plan: {right} is expected" in refused
    elsewhere = fresh.apply(adopt_issuer=True)
    assert not [b for b in elsewhere.all("oci_objectstorage_bucket") if b.startswith("issuer")]
    assert elsewhere.all("oci_kms_key")["issuer[0]"]


@pytest.mark.parametrize("prefix", ["", "/standby"])
def test_the_bucket_is_the_one_that_the_command_writes(prefix: str, fresh: Stack) -> None:
    host = "tenant.objectstorage.eu-frankfurt-1.oci.customer-oci.com"
    issuer = f"https://{host}/n/tenant/b/of-ours/o{prefix}"
    fresh.plan["runners"]["oci"]["federation"]["issuer"] = issuer
    place = place_of(issuer)
    assert place
    assert place.bucket == "of-ours"
    names = {b["name"] for b in fresh.apply().all("oci_objectstorage_bucket").values()}
    assert "of-ours" in names


# ---- a key that exists, and an issuer before the sessions


def adopt(stack: Stack, **changes: object) -> Document:
    """Let a vault and a key of others be there; the variables that adopt them."""
    ends = {f"{name}_endpoint": f"https://estate-{name}" for name in ("management", "crypto")}
    stack.there["oci_kms_vault.adopted"] = ends
    stack.there["oci_kms_key.issuer"] = {
        "compartment_id": "ocid1.compartment.oc1..x",
        "current_key_version": "ocid1.keyversion.oc1.eu.estate",
        "protection_mode": "HSM",
        "key_shape": [{"algorithm": "RSA", "length": "256"}],
        **changes,
    }
    return {"vault_ocid": VAULT, "issuer_key_ocid": KEY}


def test_a_key_that_exists_is_adopted(fresh: Stack) -> None:
    adopting = adopt(fresh)
    outputs = fresh.apply(**adopting).outputs
    assert outputs["runners_oci_federation"]["key"] == {
        "id": KEY,
        "version": "ocid1.keyversion.oc1.eu.estate",
        "endpoint": "https://estate-crypto",
    }
    fresh.name_made(outputs)
    paste(fresh, outputs)
    deployment = fresh.apply(**with_image(**adopting))
    assert set(deployment.all("oci_kms_key")) == {"secrets[0]", "audit[0]", "digests[0]"}
    granted = [s for s in statements(deployment) if s.targets == {"target.key.id": {KEY}}]
    assert {s.permissions for s in granted} == {frozenset({"KEY_SIGN"})}
    assert {s.compartment for s in granted} == {"ocid1.compartment.oc1..x"}


@pytest.mark.parametrize(
    "changes", [{"protection_mode": "SOFTWARE"}, {"key_shape": [{"algorithm": "AES", "length": "32"}]}]
)
def test_a_key_that_does_not_fit_is_not_adopted(changes: Document, fresh: Stack) -> None:
    assert "it must be an RSA key whose protection mode is HSM" in fresh.refused(**adopt(fresh, **changes))


def test_the_issuer_can_be_there_before_the_function_uses_it(fresh: Stack) -> None:
    keyless = fresh.apply()
    fresh.plan["runners"]["oci"] = {"aws_key_secret": "lockstep/aws-key"}
    assert "runners_oci_federation" not in fresh.apply().outputs
    fresh.name_made(fresh.apply().outputs)
    both = fresh.apply(**with_image(keep_issuer=BUCKET))
    signing = [s for s in statements(both) if "KEY_SIGN" in s.permissions]
    assert [s.subject for s in signing] == [of("lockstep-oci-digest", signing, both)[0].subject]
    for kind in ("oci_kms_key", "oci_objectstorage_bucket"):
        assert both.all(kind)["issuer[0]"] == keyless.all(kind)["issuer[0]"]
    made, asked = (one.outputs["runners_oci_federation"] for one in (both, keyless))
    assert {**made, "role_arn": asked["role_arn"]} == asked
