"""Who may delete from the audit log in OCI, or change what protects it."""

from collections.abc import Mapping, Sequence

import pytest

from tests.infrastructure.terraform.policies import Statement, allowed, statements
from tests.infrastructure.terraform.stack import Deployment, Stack, needs_tools, with_image

pytestmark = needs_tools

BREAK_GLASS = "ocid1.group.oc1..breakglass"
STORAGE = "ocid1.group.oc1..storage"
DELETION = {
    "OBJECT_DELETE",
    "OBJECT_VERSION_DELETE",
    "OBJECT_UPDATE_TIER",
    "BUCKET_UPDATE",
    "BUCKET_DELETE",
    "RETENTION_RULE_MANAGE",
    "RETENTION_RULE_LOCK",
    "PAR_MANAGE",
}
"""With which an entry, a version, the life cycle, the versioning or the retention of the bucket goes."""
WRITING = {"OBJECT_CREATE", "OBJECT_OVERWRITE"}
READING = {"OBJECT_INSPECT", "OBJECT_READ"}


def administrator_of_storage(own: str) -> Statement:
    """What estates give their storage administrators: `manage object-family`, as permissions."""
    return Statement(
        text="",
        denies=False,
        subject=STORAGE,
        permissions=frozenset(DELETION | WRITING | READING),
        verb=None,
        resource_type=None,
        compartment=own,
        targets={},
        others={},
    )


class Guarded:
    """A stack with a break-glass group, and with deny policies or without."""

    def __init__(self, deployment: Deployment) -> None:
        self._own = deployment.outputs["own_compartment_id"]
        self.policy = [*statements(deployment), administrator_of_storage(self._own)]
        functions = deployment.all("oci_functions_function")
        self.functions = {name: functions[name]["id"] for name in ("rotate", "digest")}
        self.groups = {
            g["name"]: g["id"]
            for kind in ("oci_identity_group", "oci_identity_dynamic_group")
            for g in deployment.all(kind).values()
        }

    def may(
        self,
        groups: Sequence[str],
        *,
        principal: str = "ocid1.user.oc1..someone",
        kind: str = "user",
        bucket: str = "lockstep-audit",
    ) -> set[str]:
        """The permissions that a principal has on a bucket."""
        request: Mapping[str, Sequence[str]] = {
            "compartment": [self._own],
            "subject": groups,
            "target.bucket.name": [bucket],
            "request.principal.id": [principal],
            "request.principal.type": [kind],
            # Only users are in groups; a function is in a dynamic group.
            **({"request.groups.id": groups} if kind == "user" else {}),
        }
        return {p for p in DELETION | WRITING | READING if allowed(self.policy, p, request)}


@pytest.fixture(name="guarded", scope="module")
def _guarded(stack: Stack, deployed: Deployment) -> Guarded:
    # The plan has the OCIDs of what was deployed.
    assert deployed.resources
    variables = with_image(audit_break_glass_group_ocid=BREAK_GLASS, audit_deny_policies=True)
    return Guarded(stack.apply(**variables))


LOG, DIGESTS = "lockstep-audit", "lockstep-audit-digests"


@pytest.mark.parametrize("bucket", [LOG, DIGESTS])
def test_only_the_break_glass_group_may_delete(bucket: str, guarded: Guarded) -> None:
    assert guarded.may([BREAK_GLASS], bucket=bucket) == {
        "OBJECT_INSPECT",
        "OBJECT_DELETE",
        "OBJECT_VERSION_DELETE",
        "BUCKET_UPDATE",
        "BUCKET_DELETE",
        "RETENTION_RULE_MANAGE",
    }
    assert guarded.may([STORAGE], bucket=bucket) == READING
    # Also where a storage administrator is an instance, or a service.
    assert (
        guarded.may([STORAGE], principal="ocid1.instance.oc1..x", kind="instance", bucket=bucket) == READING
    )


@pytest.mark.parametrize(
    ("group", "name", "bucket", "reads"),
    [
        ("lockstep-oci-runner", "rotate", LOG, {"OBJECT_INSPECT"}),
        ("lockstep-oci-digest", "digest", DIGESTS, READING),
    ],
)
def test_one_function_writes_to_each_bucket_and_not_to_the_other(
    group: str, name: str, bucket: str, reads: set[str], guarded: Guarded
) -> None:
    functions, dynamic = guarded.functions, guarded.groups[group]
    may = {
        place: guarded.may([dynamic], principal=functions[name], kind="fnfunc", bucket=place)
        for place in (LOG, DIGESTS)
    }
    assert may[bucket] == {"OBJECT_CREATE"} | reads
    assert not may[LOG if bucket == DIGESTS else DIGESTS] & (WRITING | DELETION)
    # Another function that was put into its dynamic group.
    for other in ("ocid1.fnfunc.oc1..other", *({*functions.values()} - {functions[name]})):
        assert guarded.may([dynamic], principal=other, kind="fnfunc", bucket=bucket) == reads


def test_the_aws_runner_reads(guarded: Guarded) -> None:
    assert guarded.may([guarded.groups["lockstep-aws-runner"]], bucket=DIGESTS) == READING


def test_other_buckets_are_not_touched(guarded: Guarded) -> None:
    assert guarded.may([STORAGE], bucket="other-audit") == DELETION | WRITING | READING
    for group in (BREAK_GLASS, *guarded.groups.values()):
        assert guarded.may([group], bucket="other-audit") == set()


def test_without_a_break_glass_group_nobody_is_exempt(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    guarded = Guarded(stack.apply(**with_image(audit_deny_policies=True)))
    assert guarded.may([STORAGE]) == guarded.may([STORAGE], kind="instance") == READING


def test_deny_policies_are_made_only_on_demand(deployed: Deployment) -> None:
    # A tenancy that has not enabled them refuses the statements.
    plain = Guarded(deployed)
    assert not any(s.denies for s in plain.policy)
    assert not any(plain.may([group]) & (DELETION | {"OBJECT_OVERWRITE"}) for group in plain.groups.values())
    assert plain.may([STORAGE]) == DELETION | WRITING | READING


def test_before_the_function_is_made_nobody_may_write(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    denies = [
        p
        for address, p in stack.apply(audit_deny_policies=True).all("oci_identity_policy").items()
        if address.startswith("audit_deny")
    ]
    assert len(denies) == 2
    for deny, bucket in zip(denies, (LOG, DIGESTS), strict=True):
        assert deny["statements"][-1].endswith(f"where all {{target.bucket.name = '{bucket}'}}")


# ---- a retention rule, or versions instead

OF_THE_LOG = ("audit[0]", "digests[0]")


def test_a_retention_rule_of_what_the_plan_says_is_the_default(stack: Stack, deployed: Deployment) -> None:
    copy = stack.copy()
    copy.plan["audit"]["aws"]["retention"] = "36h"
    for deployment, days in ((deployed, "400"), (copy.apply(), "2")):
        for name in OF_THE_LOG:
            bucket = deployment.all("oci_objectstorage_bucket")[name]
            # The tenancy refuses a bucket that has both.
            assert bucket["versioning"] == "Disabled"
            [rule] = bucket["retention_rules"]
            assert rule["duration"] == [{"time_amount": days, "time_unit": "DAYS"}]
            # Whoever may manage rules can remove it.
            assert rule["time_rule_locked"] is None


def test_the_rule_is_locked_on_demand(stack: Stack) -> None:
    at = "2030-01-31T00:00:00Z"
    buckets = stack.apply(audit_retention_locked_from=at).all("oci_objectstorage_bucket")
    assert [buckets[name]["retention_rules"][0]["time_rule_locked"] for name in OF_THE_LOG] == [at, at]


def test_versions_take_the_place_of_the_rule_for_a_trial(stack: Stack) -> None:
    buckets = stack.apply(audit_versions=True).all("oci_objectstorage_bucket")
    for name in OF_THE_LOG:
        assert (buckets[name]["versioning"], buckets[name]["retention_rules"]) == ("Enabled", [])


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        (
            {"audit_retention_locked_from": "2030-01-31T00:00:00Z", "audit_versions": True},
            "with audit_versions there is none",
        ),
        ({"audit_retention_locked_from": "soon"}, "must be a time such as 2030-01"),
        ({"audit_break_glass_group_ocid": "admins"}, "must be the OCID of a group"),
    ],
)
def test_wrong_settings_are_refused(variables: dict[str, object], complaint: str, stack: Stack) -> None:
    assert complaint in stack.refused(**variables)
