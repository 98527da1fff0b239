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
        self.function = deployment.all("oci_functions_function")["rotate"]["id"]
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


def test_only_the_break_glass_group_may_delete(guarded: Guarded) -> None:
    assert guarded.may([BREAK_GLASS]) == {
        "OBJECT_INSPECT",
        "OBJECT_DELETE",
        "OBJECT_VERSION_DELETE",
        "BUCKET_UPDATE",
        "BUCKET_DELETE",
        "RETENTION_RULE_MANAGE",
    }
    assert guarded.may([STORAGE]) == READING
    # Also where a storage administrator is an instance, or a service.
    assert guarded.may([STORAGE], principal="ocid1.instance.oc1..x", kind="instance") == READING


def test_only_the_function_may_write(guarded: Guarded) -> None:
    function = guarded.groups["lockstep-oci-runner"]
    assert guarded.may([function], principal=guarded.function, kind="fnfunc") == {
        "OBJECT_CREATE",
        "OBJECT_INSPECT",
    }
    # Another function that was put into its dynamic group.
    assert guarded.may([function], principal="ocid1.fnfunc.oc1..other", kind="fnfunc") == {"OBJECT_INSPECT"}
    assert guarded.may([guarded.groups["lockstep-aws-runner"]]) == READING


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
    (deny,) = [
        p
        for address, p in stack.apply(audit_deny_policies=True).all("oci_identity_policy").items()
        if address.startswith("audit_deny")
    ]
    assert deny["statements"][-1].endswith("where all {target.bucket.name = 'lockstep-audit'}")


# ---- versions, or a retention rule instead


def test_versions_are_the_default(deployed: Deployment) -> None:
    bucket = deployed.all("oci_objectstorage_bucket")["audit[0]"]
    assert (bucket["versioning"], bucket["retention_rules"]) == ("Enabled", [])


def test_a_retention_rule_takes_the_place_of_versions(stack: Stack) -> None:
    # The tenancy refuses a bucket that has both.
    rule = {"audit_retention_days": 400, "audit_retention_locked_from": "2030-01-31T00:00:00Z"}
    bucket = stack.apply(**rule).all("oci_objectstorage_bucket")["audit[0]"]
    assert bucket["versioning"] == "Disabled"
    assert bucket["retention_rules"] == [
        {
            "display_name": "lockstep-audit",
            "time_rule_locked": "2030-01-31T00:00:00Z",
            "duration": [{"time_amount": "400", "time_unit": "DAYS"}],
        }
    ]


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"audit_retention_days": 0.5}, "a whole number of days, 1 or more"),
        ({"audit_retention_locked_from": "2030-01-31T00:00:00Z"}, "so set audit_retention_days too"),
        (
            {"audit_retention_days": 9, "audit_retention_locked_from": "soon"},
            "must be a time such as 2030-01",
        ),
        ({"audit_break_glass_group_ocid": "admins"}, "must be the OCID of a group"),
    ],
)
def test_wrong_settings_are_refused(variables: dict[str, object], complaint: str, stack: Stack) -> None:
    assert complaint in stack.refused(**variables)
