import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lockstep.oci.clients import OciClients
from lockstep.oci.functions import OwnFunction
from lockstep.plan.file import parse_plan
from lockstep.protocol.errors import LockstepError, NotHandedOnError
from sandbox.identities import DIGEST_MAY, DIGEST_READER_MAY, FUNCTION_MAY, RUNNERS_MAY
from tests.contract.oci_fixtures import sandbox_clients, sandbox_vault
from tests.infrastructure.terraform.policies import Statement, matching_rules, statements
from tests.infrastructure.terraform.stack import ROOT, Deployment, Document, Stack, needs_tools, with_image
from tests.infrastructure.terraform.steps import digest
from tests.infrastructure.terraform.world import (
    FIRST_DIGEST,
    NEXT_DIGEST,
    OTHERS_FUNCTION_ID,
    PLAN_MAY,
    World,
    digest_bucket,
    in_compartment,
    keep_record,
    log_of,
    make_digest,
    of,
    own_vault,
    permissions,
    rotate_rings,
    running_world,
    sign_digest,
)

pytestmark = needs_tools


@pytest.fixture(scope="module")
def policy(deployed: Deployment) -> list[Statement]:
    return statements(deployed)


@pytest.fixture
def world(stack: Stack, deployed: Deployment) -> Iterator[World]:
    with running_world(stack, deployed) as world:
        yield world


# ---- what the policies grant


def test_the_runners_have_the_same_permissions_as_in_the_sandbox(
    policy: list[Statement], stack: Stack, deployed: Deployment
) -> None:
    rings, own = stack.store["compartment_id"], stack.store["own_compartment_id"]
    aws, oci_runner = (of(f"lockstep-{cloud}-runner", policy, deployed) for cloud in ("aws", "oci"))
    assert {s.compartment for s in aws} == {s.compartment for s in oci_runner} == {rings, own}
    assert permissions(in_compartment(aws, rings)) == set(RUNNERS_MAY)
    assert permissions(in_compartment(aws, own)) == set(DIGEST_READER_MAY)
    assert permissions(in_compartment(oci_runner, rings)) == set(RUNNERS_MAY)
    assert permissions(in_compartment(oci_runner, own)) == {*FUNCTION_MAY, PLAN_MAY, "ONS_TOPIC_PUBLISH"}
    assert not any(s.verb for s in aws + oci_runner)


def test_where_the_plan_sends_events_the_function_may_publish_in_the_compartment_of_the_topic(
    deployed: Deployment, stack: Stack, policy: list[Statement]
) -> None:
    topics = "ocid1.compartment.oc1..topics"
    telling = stack.copy()
    telling.plan["events"] = {"oci": "ocid1.onstopic.oc1.eu.a"}
    telling.there["oci_ons_notification_topic.events"] = {"compartment_id": topics}
    after = statements(telling.apply(**with_image()))
    group = "lockstep-oci-runner"
    now, before = of(group, after, deployed), of(group, policy, deployed)
    [added] = [s for s in now if s not in before]
    assert added.compartment == topics
    assert added.permissions == {"ONS_TOPIC_PUBLISH"}
    assert len(after) == len(policy) + 1


def test_the_rings_are_alone_in_their_compartment(stack: Stack, deployed: Deployment) -> None:
    rings = stack.store["compartment_id"]
    assert rings not in {s["compartment_id"] for s in deployed.secrets.values()}
    assert deployed.outputs["secrets"]["compartment_id"] == rings
    others = [
        address
        for address, values in deployed.resources.items()
        if values.get("compartment_id") == rings
        and not address.startswith(("oci_vault_secret.", "oci_identity_policy."))
    ]
    assert others == []


@pytest.mark.parametrize("credentials", [1, 12])
def test_the_size_of_the_policies_does_not_depend_on_the_number_of_credentials(
    credentials: int, policy: list[Statement], stack: Stack, deployed: Deployment
) -> None:
    copy = stack.copy()
    first = copy.plan["credentials"][0]
    copy.plan["credentials"] += [
        {**first, "id": f"more/app_{i}/user", "username": f"more_{i}"} for i in range(credentials)
    ]
    assert len(set(names_of(copy.plan))) == len(names_of(copy.plan))
    more = statements(copy.apply(**with_image()))
    assert sorted(len(s.text) for s in more) == sorted(len(s.text) for s in policy)
    assert deployed.resources


def names_of(plan: Document) -> list[str]:
    return [
        name
        for c in parse_plan(json.dumps(plan), base=Path()).credentials
        for name in (c.id, c.secret_names.connection_blob)
    ]


def test_the_audit_log_is_added_to_by_the_function_alone(
    policy: list[Statement], deployed: Deployment
) -> None:
    in_storage = [s for s in policy if any(p.startswith(("OBJECT", "BUCKET")) for p in s.permissions)]
    granted = [s for s in in_storage if s.targets == {"target.bucket.name": {"lockstep-audit"}}]
    digest = of("lockstep-oci-digest", policy, deployed)[0].subject
    for plan in [s for s in in_storage if s.targets == {"target.bucket.name": {"lockstep-audit-plans"}}]:
        assert plan.subject in {of("lockstep-oci-runner", policy, deployed)[0].subject, digest}
        assert plan.permissions == {PLAN_MAY}
    assert {s.subject: s.permissions for s in granted} == {
        of("lockstep-oci-runner", policy, deployed)[0].subject: {"OBJECT_CREATE", "OBJECT_INSPECT"},
        digest: {"OBJECT_INSPECT"},
    }


def test_digests_are_added_by_their_function_and_read_by_the_other_cloud(
    policy: list[Statement], deployed: Deployment
) -> None:
    granted = [s for s in policy if s.targets == {"target.bucket.name": {"lockstep-audit-digests"}}]
    assert {s.subject: s.permissions for s in granted} == {
        of("lockstep-oci-digest", policy, deployed)[0].subject: {
            "OBJECT_CREATE",
            "OBJECT_INSPECT",
            "OBJECT_READ",
        },
        of("lockstep-aws-runner", policy, deployed)[0].subject: {"OBJECT_INSPECT", "OBJECT_READ"},
    }


def test_who_makes_digests_reads_the_keys_of_the_log_and_no_login(
    policy: list[Statement], stack: Stack, deployed: Deployment
) -> None:
    digest = of("lockstep-oci-digest", policy, deployed)
    [reads] = [s for s in digest if "SECRET_BUNDLE_READ" in s.permissions]
    secrets = {s["id"]: s["secret_name"] for s in deployed.secrets.values()}
    assert {secrets[ocid] for ocid in reads.targets["target.secret.id"]} == {
        "lockstep.mac",
        "lockstep.aws-key",
    }
    assert {s.compartment for s in digest} == {stack.store["own_compartment_id"]}
    keys = [s for s in policy if any(p.startswith("KEY_") for p in s.permissions)]
    assert {(s.subject, s.permissions) for s in keys} == {
        (digest[0].subject, frozenset({"KEY_READ", "KEY_SIGN"}))
    }
    assert keys[0].targets == {"target.key.id": {deployed.all("oci_kms_key")["digests[0]"]["id"]}}


def test_object_storage_may_use_only_the_audit_key(policy: list[Statement], deployed: Deployment) -> None:
    (granted,) = [s for s in policy if s.subject == "objectstorage-eu-frankfurt-1"]
    assert (granted.verb, granted.resource_type) == ("use", "keys")
    assert granted.targets == {"target.key.id": {deployed.all("oci_kms_key")["audit[0]"]["id"]}}


def test_schedules_find_the_functions_and_call_them(policy: list[Statement], deployed: Deployment) -> None:
    granted = of("lockstep-standby-schedules", policy, deployed)
    assert {(s.verb, s.resource_type) for s in granted} == {
        ("read", "fn-app"),
        ("read", "fn-function"),
        ("use", "fn-invocation"),
    }
    (calls,) = [s for s in granted if s.resource_type == "fn-invocation"]
    functions = deployed.all("oci_functions_function")
    assert calls.targets == {"target.function.id": {functions[name]["id"] for name in ("rotate", "digest")}}


def test_dynamic_groups_name_the_functions_and_the_schedules_by_ocid(deployed: Deployment) -> None:
    groups = deployed.all("oci_identity_dynamic_group")
    function, digest, schedules = matching_rules(
        groups[f"{name}[0]"]["matching_rule"] for name in ("function", "digest", "schedules")
    )
    functions = deployed.all("oci_functions_function")
    assert _clauses(function) == [("resource.id", functions[name]["id"]) for name in ("rotate", "doctor")]
    assert _clauses(digest) == [("resource.id", functions["digest"]["id"])]
    assert {rule["mode"] for rule in (function, digest, schedules)} == {"any"}
    ids = [s["id"] for s in deployed.all("oci_resource_scheduler_schedule").values()]
    assert sorted(_clauses(schedules)) == sorted(("resource.id", ocid) for ocid in ids)


def _clauses(rule: dict[str, list[dict[str, dict[str, dict[str, str]]]]]) -> list[tuple[str, str]]:
    nodes = [item["node"] for item in rule["items"]]
    return [(str(node["lhs"]), node["rhs"]["value"]) for node in nodes]


def test_the_documentation_lists_exactly_the_granted_permissions(
    policy: list[Statement], deployed: Deployment
) -> None:
    text = (ROOT / "docs/iam-oci.md").read_text()
    for heading, group, with_sessions in (
        ("The AWS runner", "lockstep-aws-runner", set()),
        ("The OCI runner", "lockstep-oci-runner", {"KEY_SIGN"}),
        ("The digests", "lockstep-oci-digest", set()),
    ):
        section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        # One permission may have a row for each thing on which it is granted.
        listed = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
        assert listed == permissions(of(group, policy, deployed)) | with_sessions, heading


# ---- the permissions are enough, and each is needed


def test_the_function_calls_no_other_one(world: World, policy: list[Statement], deployed: Deployment) -> None:
    clients = world.permit("lockstep-oci-runner", of("lockstep-oci-runner", policy, deployed))
    with pytest.raises(NotHandedOnError):
        OwnFunction(clients, OTHERS_FUNCTION_ID).call({})


def work_of(runner: str, world: World, clients: OciClients) -> None:
    if runner != "lockstep-oci-digest":
        rotate_rings(world, clients)
    if runner == "lockstep-oci-runner":
        keep_record(world, clients)
    elif runner == "lockstep-oci-digest":
        assert log_of(world, sandbox_clients(world.sandbox)).put(1, b"{}", {"chain": "{}", "mac": "{}"})
        make_digest(world, clients)
    else:
        digest(world, clients)


@pytest.mark.parametrize("runner", ["lockstep-aws-runner", "lockstep-oci-runner", "lockstep-oci-digest"])
def test_a_runner_can_do_its_work(
    runner: str, world: World, policy: list[Statement], deployed: Deployment
) -> None:
    work_of(runner, world, world.permit(runner, of(runner, policy, deployed)))


@pytest.mark.parametrize(
    ("runner", "permission", "place"),
    [
        *(("lockstep-aws-runner", p, "rings") for p in RUNNERS_MAY),
        *(("lockstep-aws-runner", p, "own") for p in DIGEST_READER_MAY),
        *(("lockstep-oci-runner", p, "rings") for p in RUNNERS_MAY),
        *(("lockstep-oci-runner", p, "own") for p in (*FUNCTION_MAY, PLAN_MAY)),
        *(("lockstep-oci-digest", p, "own") for p in DIGEST_MAY),
    ],
)
def test_a_runner_needs_each_of_its_permissions(
    runner: str, permission: str, place: str, world: World, policy: list[Statement], deployed: Deployment
) -> None:
    sandbox = world.sandbox
    compartment = sandbox.compartment_id if place == "rings" else sandbox.own_compartment_id
    clients = world.permit(runner, of(runner, policy, deployed), without=(permission, compartment))
    with pytest.raises((LockstepError, AssertionError)):
        work_of(runner, world, clients)


def test_who_makes_digests_writes_no_entry_and_who_writes_entries_makes_no_digest(
    world: World, policy: list[Statement], deployed: Deployment
) -> None:
    digests, runs = (
        world.permit(name, of(name, policy, deployed))
        for name in ("lockstep-oci-digest", "lockstep-oci-runner")
    )
    entry = {"chain": "{}", "mac": "{}"}
    vault = own_vault(world, digests)
    for forbidden in (
        lambda: log_of(world, digests).put(1, b"{}", entry),
        lambda: vault.read_named("lockstep.admin.orders"),
        lambda: rotate_rings(world, digests),
        lambda: digest_bucket(world, runs).create(NEXT_DIGEST, b"{}"),
        lambda: digest_bucket(world, runs).read(FIRST_DIGEST, 100),
        lambda: sign_digest(world, runs),
    ):
        with pytest.raises(LockstepError):
            forbidden()


# ---- what each reaches, of everything in the tenancy


def test_an_application_reads_only_its_own_credential(world: World, deployed: Deployment) -> None:
    grants = deployed.outputs["application_grants"]["multi-cloud/app_user"]
    policy = [f"Allow dynamic-group id ocid1.dynamicgroup.oc1..app {grant}" for grant in grants]
    given = statements(_policy(policy))
    vault = sandbox_vault(world.sandbox, world.permit("application", given))
    assert vault.read_named("multi-cloud.app_user.0").data
    assert vault.read_named("multi-cloud.app_user.connection.3").data
    own = own_vault(world, world.permit("application", given))
    for reader, name in ((vault, "batch.0"), (own, "lockstep.mac")):
        with pytest.raises(LockstepError):
            reader.read_named(name)


def _policy(texts: Sequence[str]) -> Deployment:
    return Deployment(resources={"oci_identity_policy.application": {"statements": list(texts)}}, outputs={})
