import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import hcl2
import pytest
from ruamel.yaml import YAML

from lockstep.operate.secrets import ring_terms
from lockstep.plan.admins import names_in_oci
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.plan.published import place_in_oci, place_of
from lockstep.protocol.deadlines import RUN
from lockstep.protocol.names import DEFAULT_STACK, DOCTOR, digest_bucket_name, oci_name, slot_name
from lockstep.protocol.schedule import shards
from lockstep.runtime.wiring import DOCTOR_VARIABLE
from tests.infrastructure.terraform import plain
from tests.infrastructure.terraform.stack import (
    CONFIGURATION,
    PLAN_DIGEST,
    ROOT,
    Deployment,
    Document,
    Stack,
    needs_tools,
    plan_document,
    run_tool,
    with_image,
)
from tests.support.standby import standby_minutes

KEPT = {"oci_kms_vault", "oci_kms_key", "oci_vault_secret", "oci_objectstorage_bucket"}
"""Types that hold credentials or the audit log, or the keys to them."""
TAGGED_BY_NOTHING = {
    "oci_identity_api_key",
    "oci_identity_user_capabilities_management",
    "oci_identity_user_group_membership",
    "time_sleep",
}
"""Types that have no tags."""
NAMED_ELSEWHERE = {
    "oci_vault_secret",
    "oci_objectstorage_bucket",
    "oci_ons_subscription",
    "oci_functions_function",
}
"""Named in the plan, or without a name of their own in the tenancy."""
AWS_ONLY = {"aws": {"oci_key_secret": "lockstep/oci-key"}}


def parsed(plan: Document) -> Plan:
    return parse_plan(json.dumps(plan), base=Path())


def names_in_vault(plan: Plan) -> Iterator[str]:
    for credential in plan.credentials:
        for secret in (credential.secret_names.app_user, credential.secret_names.connection_blob):
            yield from (slot_name(secret, slot) for slot in range(plan.slots))
    assert plan.audit.oci
    yield oci_name(plan.audit.oci.mac_secret)
    if plan.runners.oci:
        yield oci_name(plan.runners.oci.aws_key_secret or "")
        yield from map(oci_name, names_in_oci(plan))


def secret_names(deployment: Deployment) -> list[str]:
    return sorted([*(s["secret_name"] for s in deployment.secrets.values()), *deployment.outputs["slots"]])


# ---- Terraform's own checks


@needs_tools
def test_the_configuration_is_formatted() -> None:
    formatted = run_tool("fmt")
    assert formatted["code"] == 0, formatted["value"]


# ---- the plan decides


@needs_tools
def test_the_secrets_are_those_that_the_code_reads(stack: Stack, deployed: Deployment) -> None:
    assert secret_names(deployed) == sorted(names_in_vault(parsed(stack.plan)))
    [_, read] = deployed.outputs["application_grants"]["batch"]
    of_batch = [ocid for name, ocid in deployed.outputs["slots"].items() if name.startswith("batch.")]
    assert of_batch
    assert all(ocid in read for ocid in of_batch)
    assert set(deployed.outputs["secrets_to_fill_in"]) == {
        "lockstep.aws-key",
        "lockstep.admin.orders",
        "lockstep.admin.reports",
    }


@needs_tools
def test_names_and_defaults_follow_the_plan_as_the_code_does() -> None:
    plan = plan_document(runners=AWS_ONLY)
    named = {"secret": "other/user", "connection_secret": "other/blob"}
    plan["credentials"] = [
        {**plan["credentials"][0], "username": "first", "id": "a/b/c", "interval": "2h"},
        {**plan["credentials"][1], "username": "second", "id": "bare", "interval": "120 m"},
        {**plan["credentials"][1], "username": "third", "id": "named", "interval": "1d", **named},
    ]
    stack = Stack(plan=plan)
    first = stack.apply()
    # What people fill in, and the signing key; the slots are made by `lockstep secrets create`.
    assert {address.partition("[")[0] for address in first.secrets} <= {"by_hand", "mac"}
    assert (first.outputs["slots"], first.outputs["application_grants"]) == ({}, {})
    stack.create_slots(first.outputs["secrets"])
    assert secret_names(stack.apply()) == sorted(names_in_vault(parsed(plan)))


@needs_tools
def test_the_command_reads_what_each_slot_gets(deployed: Deployment) -> None:
    terms = ring_terms(deployed.outputs["secrets"], region="eu-frankfurt-1")
    assert terms.freeform_tags == {"lockstep-stack": "lockstep"}
    assert (terms.vault_id, terms.defined_tags or {}) == (deployed.outputs["vault_id"], {})
    tagged = Stack(plan=plan_document()).apply(defined_tags={"Finance.CostCenter": "42"})
    output = tagged.outputs["secrets"]
    assert ring_terms(output, region="eu-frankfurt-1").defined_tags == {"Finance.CostCenter": "42"}


@needs_tools
def test_slots_that_have_left_the_plan_are_strangers_until_they_are_named(
    stack: Stack, deployed: Deployment
) -> None:
    fewer = stack.copy()
    del fewer.plan["credentials"][1]
    left = [name for name in deployed.outputs["slots"] if name.startswith(("batch.", "connection"))]
    assert left
    assert "list them in retired_slots: batch.0, " in fewer.refused()
    assert fewer.apply(retired_slots=left).outputs["slots"].keys() == deployed.outputs["slots"].keys() - {
        *left
    }


@needs_tools
def test_there_is_a_runner_only_if_the_plan_has_one() -> None:
    stack = Stack(plan=plan_document(runners=AWS_ONLY))
    deployment = stack.apply(**with_image())
    assert not deployment.all("oci_functions_function")
    assert "function_id" not in deployment.outputs


@needs_tools
def test_the_standby_is_called_half_an_interval_after_each_rotation_and_every_hour(tmp_path: Path) -> None:
    week = 7 * 1440
    cases = [
        ({20: 200}, [10, 30, 50]),
        ({30: 1}, [15, 45]),
        ({60: 200}, [30]),
        ({180: 1}, [30]),
        ({week: 1}, [30]),
        ({20: 1, 30: 1}, [10, 15, 30, 45, 50]),
        ({20: 201}, [2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58]),
        ({60: 2000}, [0, 6, 12, 18, 24, 30, 36, 42, 48, 54]),
        ({60: 1500, 30: 5}, [0, 6, 12, 15, 18, 24, 30, 36, 42, 45, 48, 54]),
        ({120: 1001}, [6, 18, 30, 42, 54]),
        ({1440: 2001, week: 10}, [6, 18, 30, 42, 54]),
        ({20: 10_000}, list(range(60))),
    ]
    runs = schedules(tmp_path, [counts for counts, _ in cases])
    assert runs == [[f"{minute} * * * *" for minute in minutes] for _, minutes in cases]
    # `tests/unit/test_takeover.py` counts with them.
    plans = [
        {f"c{m}-{n}": timedelta(minutes=m) for m, number in counts.items() for n in range(number)}
        for counts, _ in cases
    ]
    for plan, (_, minutes) in zip(plans, cases, strict=True):
        assert standby_minutes(shards(plan)) == tuple(minutes)


def schedules(folder: Path, cases: list[dict[int, int]]) -> list[list[str]]:
    plain.write(CONFIGURATION / "runner", folder / "runner", {})
    modules = {f"case{i}": runner_module(f"case{i}", case) for i, case in enumerate(cases)}
    outputs = {name: {"value": f"${{module.{name}.schedules}}"} for name in modules}
    (folder / "main.tf.json").write_text(json.dumps({"module": modules, "output": outputs}))
    result = run_tool("outputs", folder=folder)
    return [result["value"][name]["value"] for name in modules]


def runner_module(name: str, credentials: dict[int, int]) -> Document:
    ids = {"vault_id": "ocid1.vault.oc1..aaaa", "own_compartment_id": "ocid1.compartment.oc1..bbbb"}
    return {
        "source": "./runner",
        "name": name,
        "tenancy_ocid": "ocid1.tenancy.oc1..aaaa",
        "compartment_id": "ocid1.compartment.oc1..aaaa",
        "image": "fra.ocir.io/tenant/lockstep:1",
        "published_plan": f"oci://tenant/lockstep-audit-plans/plans/{PLAN_DIGEST}",
        "memory_in_mbs": 512,
        "subnet_ids": ["ocid1.subnet.oc1..aaaa"],
        "credentials": credentials,
        "paused": False,
        "log_retention_days": 30,
        "shape": "GENERIC_X86",
        "freeform_tags": {},
        "made": ids,
        "in_plan": ids,
        "grants": {},
        **dict.fromkeys(("network_security_group_ids", "missing", "strangers"), ()),
        **dict.fromkeys(("image_digest", "alarm_email", "defined_tags", "topic_ocid", "log_group_ocid")),
        **dict.fromkeys(("function_dynamic_group_ocid", "schedules_dynamic_group_ocid", "issuer_key")),
        "digest_dynamic_group_ocid": None,
        "digest_key": "ocid1.key.oc1..aaaa@https://crypto",
        "digest_grants": {},
    }


@needs_tools
@pytest.mark.parametrize(
    "form",
    [
        {
            "admin_secret": "arn:aws:secretsmanager:eu-central-1:111122223333:secret:x-AbCdEf",
            "oci_admin_secret": "x",
        },
        {"admin_iam": "lockstep_rotator"},
        {"admin_credential": "batch"},
    ],
    ids=lambda form: next(iter(form)),
)
def test_only_admins_with_a_secret_in_vault_have_one_to_fill_in(form: dict[str, str]) -> None:
    stack = Stack(plan=plan_document())
    for database in stack.plan["databases"]:
        database.pop("admin_secret"), database.pop("oci_admin_secret", None)
        database.update(form)
    to_fill_in = set(stack.apply().outputs["secrets_to_fill_in"]) - {"lockstep.aws-key"}
    assert to_fill_in == ({"x"} if "oci_admin_secret" in form else set())


@needs_tools
def test_what_has_left_the_plan_stays_where_it_is_named() -> None:
    stack = Stack(plan=plan_document())
    whole = stack.apply().secrets
    [gone] = [c for c in stack.plan["credentials"] if c["id"] == "batch"]
    stack.plan["credentials"].remove(gone)
    stack.plan["databases"].pop(1)
    stack.plan["credentials"][0]["databases"] = ["orders"]
    left = stack.apply().secrets
    by_hand = "lockstep.admin.reports"
    assert whole.keys() - left.keys() == {f'by_hand["{by_hand}"]'}
    assert stack.apply(retired_secrets=[by_hand]).secrets == whole


@needs_tools
def test_every_name_has_the_prefix_and_everything_has_the_tags(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    made = stack.apply(
        **with_image(
            name="Acme-prod",
            freeform_tags={"team": "data"},
            defined_tags={"Finance.CostCenter": "42"},
            alarm_email="ops@example.com",
            audit_break_glass_group_ocid="ocid1.group.oc1..aaaa",
        )
    ).resources
    for address, values in made.items():
        kind = address.partition(".")[0]
        if kind not in TAGGED_BY_NOTHING:
            assert values["freeform_tags"] == {"team": "data", "lockstep-stack": "Acme-prod"}, address
            assert values["defined_tags"] == {"Finance.CostCenter": "42"}, address
        if kind not in TAGGED_BY_NOTHING | NAMED_ELSEWHERE:
            assert (values.get("display_name") or values["name"]).startswith("Acme-prod"), address
    # Those that the tenancy sets by itself are left alone.
    assert all(s["defined_tags"] is None for s in deployed.secrets.values())


# ---- what must not happen


@needs_tools
def test_the_state_holds_no_credential(deployed: Deployment) -> None:
    secrets = deployed.secrets.values()
    generated = [s for s in secrets if s.get("enable_auto_generation")]
    assert [s["secret_name"] for s in generated] == ["lockstep.mac"]
    given = {c["content"] for s in secrets for c in s.get("secret_content", [])}
    assert len(given) == 1
    assert sum(len(s.get("secret_content", [])) for s in secrets) == len(secrets) - len(generated)


def test_a_rotated_secret_and_an_uploaded_key_are_left_alone() -> None:
    left_alone = {
        f"{kind}.{name}": set(block["lifecycle"][0].get("ignore_changes", []))
        for kind, name, block in declared("resource")
        if kind in {"oci_vault_secret", "oci_identity_api_key"}
    }
    generated = {"secret_generation_context", "enable_auto_generation"}
    assert left_alone == {
        "oci_vault_secret.by_hand": {"secret_content", "metadata"},
        "oci_vault_secret.mac": {"secret_content", "metadata"} | generated,
        "oci_identity_api_key.aws_runner": {"key_value"},
    }


def test_credentials_and_the_audit_log_cannot_be_destroyed() -> None:
    assert {f"{kind}.{name}" for kind, name, _ in declared("resource") if kind in KEPT} >= {
        "oci_objectstorage_bucket.audit"
    }
    for kind, name, block in declared("resource"):
        if kind in KEPT:
            assert block["lifecycle"][0]["prevent_destroy"] is True, f"{kind}.{name}"


def test_a_trial_overrides_each_protection() -> None:
    with (CONFIGURATION / "trial_override.tf.example").open() as opened:
        document: Any = hcl2.load(opened)
    overridden = {
        f"{kind}.{name}".replace('"', "")
        for found in document["resource"]
        for kind, inner in found.items()
        for name in inner
    }
    # An administrator deletes the application of sessions (`federation.tf` says why).
    assert overridden | {"oci_identity_domains_app.aws_runner"} == {
        f"{kind}.{name}"
        for kind, name, block in declared("resource")
        if block.get("lifecycle", [{}])[0].get("prevent_destroy")
    }


@needs_tools
def test_without_an_image_only_the_runner_is_missing(stack: Stack, deployed: Deployment) -> None:
    left = stack.apply().resources
    gone = deployed.resources.keys() - left.keys()
    assert not left.keys() - deployed.resources.keys()
    assert {"oci_functions_function.rotate", "oci_identity_policy.schedules"} <= gone
    assert all(values == deployed.resources[address] for address, values in left.items())


@needs_tools
def test_a_runner_whose_plan_names_another_vault_is_refused(stack: Stack, deployed: Deployment) -> None:
    copy = stack.copy()
    copy.store["vault_id"] = "ocid1.vault.oc1..another"
    assert f"vault_id in the plan: {deployed.outputs['vault_id']}" in copy.refused(**with_image())


@needs_tools
@pytest.mark.parametrize(
    ("interval", "is_refused"), [("25m", True), ("15m", True), ("1h 30m", True), ("30 m", False)]
)
def test_an_interval_needs_a_cron_expression(
    stack: Stack, deployed: Deployment, interval: str, *, is_refused: bool
) -> None:
    assert deployed.resources
    copy = stack.copy()
    for credential in copy.plan["credentials"]:
        credential["interval"] = interval
    if not is_refused:
        assert copy.apply(**with_image())
        return
    assert "must be 20m, 30m, hours that divide a day" in copy.refused(**with_image())


@needs_tools
@pytest.mark.parametrize(
    ("change", "is_refused"), [({"host": "${HOST}"}, True), ({"host": "$${HOST}"}, False), ({}, False)]
)
def test_a_plan_has_no_variables(
    stack: Stack, deployed: Deployment, change: Document, *, is_refused: bool
) -> None:
    assert deployed.resources
    copy = stack.copy()
    copy.plan["databases"][0] |= change
    if not is_refused:
        assert copy.apply(**with_image())
        return
    assert "has variables" in copy.refused(**with_image())


@needs_tools
def test_wrong_variables_are_refused_with_a_reason(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    text = stack.refused(
        tenancy_ocid="acme",
        plan_file="nowhere.yaml",
        image="lockstep",
        image_digest="latest",
        subnet_ids=["subnet-1"],
        aws_runner_public_key="-----BEGIN PRIVATE KEY-----",
    )
    for complaint in (
        "tenancy_ocid must be the OCID of a tenancy",
        "plan_file does not exist",
        "image must have a tag, such as fra.ocir.io",
        "image_digest must be sha256",
        "subnet_ids must be OCIDs of subnets",
        "Never enter the private key",
    ):
        assert complaint in text


# ---- the function and its surroundings


@needs_tools
def test_a_run_is_dead_before_its_lease_ends(deployed: Deployment) -> None:
    function = deployed.all("oci_functions_function")["rotate"]
    func = YAML(typ="safe").load(ROOT / "oci_fn/func.yaml")
    assert function["detached_mode_timeout_in_seconds"] == RUN.total_seconds()
    assert function["timeout_in_seconds"] == func["timeout"]
    assert int(function["memory_in_mbs"]) == func["memory"]


@needs_tools
def test_the_doctor_knows_the_names(deployed: Deployment) -> None:
    assert deployed.one("oci_functions_application")["display_name"] == DEFAULT_STACK
    named = {f["display_name"]: f for f in deployed.all("oci_functions_function").values()}
    assert named[DOCTOR]["config"] == {**named["rotate"]["config"], DOCTOR_VARIABLE: "1"}


@needs_tools
def test_digests_are_made_each_hour_whatever_is_paused_and_signed_with_a_key_of_their_own(
    stack: Stack, deployed: Deployment
) -> None:
    functions, keys = deployed.all("oci_functions_function"), deployed.all("oci_kms_key")
    function, key = functions["digest"], keys["digests[0]"]
    assert function["config"] == {
        **functions["rotate"]["config"],
        "LOCKSTEP_DIGEST_KEY": f"{key['id']}@https://crypto",
    }
    assert (function["timeout_in_seconds"], function["detached_mode_timeout_in_seconds"]) == (300, 3300)
    [shape] = key["key_shape"]
    # 2,048 bits.
    assert (shape["algorithm"], shape["length"], key["protection_mode"]) == ("RSA", 256, "HSM")
    schedules = stack.apply(**with_image(paused=True)).all("oci_resource_scheduler_schedule")
    schedule = schedules.pop("digest")
    assert (schedule["recurrence_details"], schedule["state"]) == ("5 * * * *", "ACTIVE")
    assert [one["id"] for one in schedule["resources"]] == [function["id"]]
    assert {one["state"] for one in schedules.values()} == {"INACTIVE"}
    assert deployed.outputs["digest_public_key"].startswith("-----BEGIN PUBLIC KEY-----")


@needs_tools
def test_failed_runs_and_missing_calls_raise_alarms(deployed: Deployment) -> None:
    topic = deployed.one("oci_ons_notification_topic")
    functions = deployed.all("oci_functions_function")
    for name in ("rotate", "digest"):
        (destination,) = functions[name]["failure_destination"]
        assert (destination["kind"], destination["topic_id"]) == ("NOTIFICATION", topic["id"])
    found = deployed.all("oci_monitoring_alarm").items()
    alarms = {address.removeprefix('standby["').removesuffix('"]'): values for address, values in found}
    assert {a["namespace"] for a in alarms.values()} == {"oci_faas"}
    for name, alarm in alarms.items():
        about = functions["digest" if name.startswith("digest_") else "rotate"]["id"]
        assert (alarm["destinations"], about in alarm["query"]) == ([topic["id"]], True), name
    assert alarms["absent"]["query"].startswith("FunctionInvocationCount[60m]")
    # The first trigger comes within 20 minutes of the deployment or the end of a pause.
    assert (alarms["absent"]["pending_duration"], alarms["absent"]["is_enabled"]) == ("PT30M", False)
    # One failure is made good by the next run; two of three are for people.
    assert [alarms[name]["severity"] for name in ("absent", "failed", "failing")] == [
        "WARNING",
        "WARNING",
        "CRITICAL",
    ]
    assert "FunctionResponseCount[60m]" in alarms["failing"]["query"]
    assert alarms["failing"]["query"].endswith(".sum() >= 2")
    # Also while the standby is paused.
    assert all(alarms[name]["is_enabled"] for name in ("digest_absent", "digest_failed"))
    assert alarms["digest_absent"]["query"].startswith("FunctionResponseCount[3h]")
    assert 'responseType = "Success"' in alarms["digest_absent"]["query"]
    (configuration,) = deployed.one("oci_logging_log")["configuration"]
    assert configuration["source"][0]["resource"] == deployed.one("oci_functions_application")["id"]


@needs_tools
def test_entries_are_archived_and_digests_readable_at_once_private_with_a_key_of_their_own(
    deployed: Deployment,
) -> None:
    buckets, keys = deployed.all("oci_objectstorage_bucket"), deployed.all("oci_kms_key")
    for place, tier, name in (
        ("audit[0]", "Archive", "lockstep-audit"),
        ("digests[0]", "Standard", digest_bucket_name("lockstep-audit")),
    ):
        bucket = buckets[place]
        assert (bucket["name"], bucket["storage_tier"]) == (name, tier)
        assert bucket["access_type"] == "NoPublicAccess"
        assert bucket["kms_key_id"] == keys["audit[0]"]["id"]
    assert {s["key_id"] for s in deployed.secrets.values()} == {keys["secrets[0]"]["id"]}


@needs_tools
def test_the_function_reads_the_plan_of_the_digest_from_a_bucket_of_its_own(
    stack: Stack, deployed: Deployment
) -> None:
    compiled = parse_plan(json.dumps(stack.plan), base=Path()).compiled
    said = deployed.all("oci_functions_function")["rotate"]["config"]["LOCKSTEP_PLAN"]
    place = place_in_oci(compiled, PLAN_DIGEST)
    assert place_of(said) == place
    assert said == str(place)
    bucket = deployed.all("oci_objectstorage_bucket")["plans[0]"]
    assert (bucket["namespace"], bucket["name"]) == (place.namespace, place.bucket)
    assert (bucket["storage_tier"], bucket["versioning"], bucket["access_type"]) == (
        "Standard",
        "Enabled",
        "NoPublicAccess",
    )
    assert bucket["compartment_id"] == stack.store["own_compartment_id"]


@needs_tools
def test_a_function_without_the_digest_of_a_plan_is_refused(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    for digest, complaint in ((None, "plan_digest must be set"), ("1234", "must be 64 hexadecimal digits")):
        assert complaint in stack.refused(**with_image(plan_digest=digest))


# ---- as a stack of Resource Manager


def declared(block: str) -> Iterator[tuple[str, str, Document]]:
    """The blocks of a kind in the files: type (or the kind itself), name, body."""
    for file in sorted(CONFIGURATION.rglob("*.tf")):
        if ".terraform" in file.parts:
            continue
        with file.open() as opened:
            document: Any = hcl2.load(opened)
        for found in document.get(block, []):
            for label, inner in found.items():
                if block == "resource":
                    yield from ((label.strip('"'), name.strip('"'), body) for name, body in inner.items())
                elif file.parent == CONFIGURATION:
                    yield block, label.strip('"'), inner


def test_the_schema_lists_exactly_the_variables() -> None:
    schema = YAML(typ="safe").load(CONFIGURATION / "schema.yaml")
    grouped = [name for group in schema["variableGroups"] for name in group["variables"]]
    variables = {name: body for _, name, body in declared("variable")}
    assert sorted(grouped) == sorted(schema["variables"]) == sorted(variables)
    for name, body in variables.items():
        assert schema["variables"][name]["required"] == ("default" not in body), name


def test_the_schema_lists_only_existing_outputs() -> None:
    schema = YAML(typ="safe").load(CONFIGURATION / "schema.yaml")
    shown = {name for group in schema["outputGroups"] for name in group["outputs"]}
    assert shown == set(schema["outputs"])
    assert shown <= {name for _, name, _ in declared("output")}
