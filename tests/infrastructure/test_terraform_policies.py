"""Who may do what in a tenancy: what policies grant, on what, and what is denied."""

import re

import pytest

from lockstep.protocol.names import slot_name
from sandbox.identities import DIGEST_MAY, DIGEST_READER_MAY, FUNCTION_MAY, READERS_MAY, RUNNERS_MAY
from tests.infrastructure.terraform import case
from tests.infrastructure.terraform.case import AWS, DIGEST, DIGESTS, ISSUER, LOG, OCI, ROLES, keys, sessions

pytestmark = case.needs_tools

OF_OCI = {*FUNCTION_MAY, "OBJECT_READ"}
"""OBJECT_READ is on the bucket of the published plan."""
MAY: dict[str, tuple[set[str], set[str]]] = {
    AWS: ({*RUNNERS_MAY}, {*DIGEST_READER_MAY}),
    OCI: ({*RUNNERS_MAY}, OF_OCI),
    DIGEST: (set(), {*DIGEST_MAY}),
    "generate": ({*RUNNERS_MAY}, set()),
    "apply_db": ({*READERS_MAY}, set()),
    "update_secrets": ({*RUNNERS_MAY}, set()),
    "digest": (set(), {*DIGEST_READER_MAY}),
}
"""By principal, all that it may in the compartment of the rings, and in Lockstep's own."""


@pytest.mark.parametrize("principal", MAY)
def test_each_principal_has_what_it_has_in_the_sandbox_where_both_clouds_are_rotated(principal: str) -> None:
    """Each world of the other tests gives its runners these permissions and no other."""
    stack, _, deployed = sessions() if principal in ROLES else keys()
    granted = deployed.of(principal)
    rings, own = stack.store["compartment_id"], stack.store["own_compartment_id"]
    assert {s.compartment for s in granted} <= {rings, own}
    assert not any(s.verb for s in granted)
    # Functions publishes where a call has failed.
    has = deployed.may(principal, rings), deployed.may(principal, own) - {"ONS_TOPIC_PUBLISH"}
    assert has == MAY[principal]


def test_the_documentation_lists_exactly_the_granted_permissions() -> None:
    text, publishes = (case.ROOT / "docs/iam-oci.md").read_text(), {"ONS_TOPIC_PUBLISH"}
    for heading, wanted in (
        ("The AWS runner", set().union(*MAY[AWS])),
        ("The OCI runner", set().union(*MAY[OCI], {"KEY_SIGN"}, publishes)),
        ("The digests", set().union(*MAY[DIGEST], publishes)),
        ("Sessions of the AWS runner", set().union(*(some for step in ROLES for some in MAY[step]))),
    ):
        section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        # One permission may have a row for each thing on which it is granted.
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        assert {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)} == wanted, heading


def test_an_application_reads_only_its_own_credential() -> None:
    stack, _, deployed = keys()
    slots = {ocid: name for name, ocid in deployed.outputs["slots"].items()}
    grants = deployed.outputs["application_grants"]
    texts = [(c, text) for c in stack.parsed.credentials for text in grants[c.id]]
    given = case.parsed_policy(
        [f"Allow dynamic-group id ocid1.dynamicgroup.oc1..app {text}" for _, text in texts]
    )
    for (credential, _), statement in zip(texts, given, strict=True):
        if not statement.targets:
            assert statement.permissions == {"SECRET_INSPECT"}
            continue
        names = credential.secret_names
        own = {slot_name(n, i) for n in (names.app_user, names.connection_blob) for i in range(4)}
        assert statement.permissions == {"SECRET_BUNDLE_READ"}
        assert {slots[ocid] for ocid in statement.targets["target.secret.id"]} == own


# ---- on which things


def test_each_statement_is_limited_to_its_bucket_secrets_and_keys() -> None:
    deployed = keys()[2]
    keys_ = {k["id"]: name for name, k in deployed.all("oci_kms_key").items()}
    functions = {f["id"]: name for name, f in deployed.all("oci_functions_function").items()}
    names = {s["id"]: s["secret_name"] for s in deployed.secrets.values()} | keys_ | functions
    found = {
        (name, ", ".join(sorted(names.get(t, t) for ids in s.targets.values() for t in ids))): {
            *s.permissions
        }
        for name in (AWS, OCI, DIGEST)
        for s in deployed.of(name)
        if s.targets
    }
    # The function that makes digests reads the keys of the log and no login, and signs with their key alone.
    assert found == {
        (AWS, DIGESTS): {"OBJECT_INSPECT", "OBJECT_READ"},
        (OCI, LOG): {"OBJECT_CREATE", "OBJECT_INSPECT"},
        (OCI, f"{LOG}-plans"): {"OBJECT_READ"},
        (OCI, "rotate"): {"FN_INVOCATION"},
        (DIGEST, LOG): {"OBJECT_INSPECT"},
        (DIGEST, f"{LOG}-plans"): {"OBJECT_READ"},
        (DIGEST, DIGESTS): {"OBJECT_CREATE", "OBJECT_INSPECT", "OBJECT_READ"},
        (DIGEST, "lockstep.aws-key, lockstep.mac"): {"SECRET_BUNDLE_READ"},
        (DIGEST, "digests[0]"): {"KEY_READ", "KEY_SIGN"},
    }
    (storing,) = [s for s in deployed.policy if s.subject == "objectstorage-eu-frankfurt-1"]
    assert (storing.verb, storing.resource_type) == ("use", "keys")
    assert {keys_[key] for key in storing.targets["target.key.id"]} == {"audit[0]"}
    scheduled = {(s.verb, s.resource_type): s.targets for s in deployed.of(case.SCHEDULES)}
    calls = scheduled.pop(("use", "fn-invocation"))
    assert scheduled.keys() == {("read", "fn-app"), ("read", "fn-function")}
    assert {functions[f] for f in calls["target.function.id"]} == {"rotate", "digest"}


def test_dynamic_groups_name_the_functions_and_the_schedules_by_ocid() -> None:
    deployed = keys()[2]
    groups, functions = deployed.all("oci_identity_dynamic_group"), deployed.all("oci_functions_function")
    schedules = deployed.all("oci_resource_scheduler_schedule")
    for name, members in (
        ("function", [functions["rotate"], functions["doctor"]]),
        ("digest", [functions["digest"]]),
        ("schedules", schedules.values()),
    ):
        rule = groups[name]["matching_rule"]
        assert re.fullmatch(r"ANY \{(resource\.id = '[^']+'(, )?)+\}", rule)
        assert sorted(re.findall(r"'([^']+)'", rule)) == sorted(one["id"] for one in members)


def test_policies_grow_with_no_credential_and_with_events_by_one_statement() -> None:
    """The rings are alone in their compartment; the function may publish in that of the topic."""
    stack, _, deployed = keys()
    rings, topics = stack.store["compartment_id"], "ocid1.compartment.oc1..topics"
    assert deployed.outputs["secrets"]["compartment_id"] == rings
    there = {a.partition(".")[0] for a, v in deployed.resources.items() if v.get("compartment_id") == rings}
    assert there == {"oci_identity_policy"}
    fresh = stack.copy()
    some = fresh.plan["credentials"]
    some += [{**some[0], "id": f"more/app_{i}/user", "username": f"more_{i}"} for i in range(12)]
    fresh.plan["events"] = {"oci": "ocid1.onstopic.oc1.eu.a"}
    fresh.there["oci_ons_notification_topic.events"] = {"compartment_id": topics}
    # Only rotation users whose logins are in Vault have a secret to fill in.
    for database, form in zip(fresh.plan["databases"], ("admin_iam", "admin_credential"), strict=True):
        database.pop("admin_secret"), database.pop("oci_admin_secret", None)
        database[form] = "batch" if form == "admin_credential" else "lockstep_rotator"
    more = fresh.apply(**case.with_image())
    [added] = [s for s in more.of(OCI) if s not in deployed.policy]
    assert (added.compartment, {*added.permissions}) == (topics, {"ONS_TOPIC_PUBLISH"})
    others = [s for s in more.policy if s != added]
    assert sorted(len(s.text) for s in others) == sorted(len(s.text) for s in deployed.policy)
    assert set(more.outputs["secrets_to_fill_in"]) == {"lockstep.aws-key"}


def test_a_function_in_aws_is_named_by_its_role_in_this_domain() -> None:
    deployed = sessions()[2]
    trust = deployed.one("oci_identity_domains_identity_propagation_trust")
    for step, role in ROLES.items():
        for statement in deployed.of(step):
            assert statement.subject == "any-user"
            assert statement.about == {
                "request.principal.type": "identityfederateddomainapp",
                "request.principal.domain.id": trust["domain_ocid"],
                "request.principal.name": role,
            }
    # Whoever else is meant by any-user is refused.
    assert [s.text for s in deployed.policy if s.subject == "any-user" and not s.about] == []


# ---- who may delete from the audit log, or change what protects it

BREAK_GLASS, STORAGE = "ocid1.group.oc1..breakglass", "ocid1.group.oc1..storage"
RULE = {"BUCKET_UPDATE", "BUCKET_DELETE", "RETENTION_RULE_MANAGE"}
DELETION = RULE | {
    *("OBJECT_DELETE", "OBJECT_VERSION_DELETE", "OBJECT_UPDATE_TIER", "RETENTION_RULE_LOCK", "PAR_MANAGE")
}
"""With which an entry, a version, the life cycle, the versioning or the retention of the bucket goes."""
WRITING, READING = {"OBJECT_CREATE", "OBJECT_OVERWRITE"}, {"OBJECT_INSPECT", "OBJECT_READ"}
EVERYTHING = DELETION | WRITING | READING


def may(
    deployed: case.Deployment,
    *groups: str,
    bucket: str = LOG,
    principal: str = "ocid1.user.oc1..someone",
    kind: str = "user",
) -> set[str]:
    """What a principal may on a bucket, where an estate gives its storage administrators `manage object-family`."""
    own = deployed.outputs["own_compartment_id"]
    administrators = case.Statement(subject=STORAGE, permissions=frozenset(EVERYTHING), compartment=own)
    request = {
        "compartment": [own],
        "subject": list(groups),
        "target.bucket.name": [bucket],
        "request.principal.id": [principal],
        "request.principal.type": [kind],
        # Only users are in groups; a function is in a dynamic group.
        **({"request.groups.id": list(groups)} if kind == "user" else {}),
    }
    about = {
        p: [s.denies for s in (*deployed.policy, administrators) if s.covers(p, request)] for p in EVERYTHING
    }
    return {permission for permission, denies in about.items() if denies and not any(denies)}


def test_with_denials_only_the_break_glass_group_may_delete_and_one_function_writes_to_each_bucket() -> None:
    stack = sessions()[0]
    denying = {"audit_break_glass_group_ocid": BREAK_GLASS, "audit_deny_policies": True}
    guarded = stack.apply(**case.with_image(**denying, **case.FROM_AWS))
    functions = {n: f["id"] for n, f in guarded.all("oci_functions_function").items()}
    for bucket, group, name, reads in (
        (LOG, OCI, "rotate", {"OBJECT_INSPECT"}),
        (DIGESTS, DIGEST, "digest", READING),
    ):
        deletes = may(guarded, BREAK_GLASS, bucket=bucket)
        assert deletes == {"OBJECT_INSPECT", "OBJECT_DELETE", "OBJECT_VERSION_DELETE", *RULE}
        # Also where a storage administrator is an instance, or a service.
        for kind in ("user", "instance"):
            assert may(guarded, STORAGE, bucket=bucket, kind=kind) == READING
        # No other function that is put into its dynamic group.
        for other in ("ocid1.fnfunc.oc1..other", *functions.values()):
            writes = {"OBJECT_CREATE"} if other == functions[name] else set[str]()
            dynamic = guarded.groups[group]
            assert may(guarded, dynamic, principal=other, kind="fnfunc", bucket=bucket) == writes | reads
    as_rotate = {"principal": functions["rotate"], "kind": "fnfunc", "bucket": DIGESTS}
    assert may(guarded, guarded.groups[OCI], **as_rotate) == set()
    # Other buckets are not touched.
    assert may(guarded, STORAGE, bucket="other-audit") == EVERYTHING
    for group in (BREAK_GLASS, *guarded.groups.values()):
        assert may(guarded, group, bucket="other-audit") == set()
    # The documents of the issuer are only of whoever administers where nothing is denied.
    changing = DELETION - {"OBJECT_UPDATE_TIER", "RETENTION_RULE_MANAGE", "RETENTION_RULE_LOCK"} | WRITING
    assert may(guarded, STORAGE, bucket=ISSUER) == EVERYTHING - changing
    assert may(guarded, STORAGE, BREAK_GLASS, bucket=ISSUER) == EVERYTHING


def test_denials_are_on_demand_and_nobody_writes_before_the_function_is_made() -> None:
    for bucket, deployed in ((LOG, keys()[2]), (ISSUER, sessions()[2])):
        # A tenancy that has not enabled them refuses the statements.
        assert not any(s.denies for s in deployed.policy)
        for group in deployed.groups.values():
            assert not may(deployed, group, bucket=bucket) & (DELETION | {"OBJECT_OVERWRITE"})
            assert bucket == LOG or not may(deployed, group, bucket=bucket) & WRITING
    without_group = keys()[0].apply(audit_deny_policies=True)
    assert may(without_group, STORAGE) == may(without_group, STORAGE, kind="instance") == READING
