import json
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import hcl2
import pytest
from ruamel.yaml import YAML

from lockstep.doctor import oci_runner
from lockstep.plan import Plan
from lockstep.plan_admins import names_in_oci
from lockstep.plan_file import parse_plan
from lockstep.published.places import place_in_oci, place_of
from lockstep.shards import shards
from lockstep.stack_names import DEFAULT_STACK
from lockstep.store_kinds.oci_names import oci_name, slot_name
from lockstep.store_kinds.oci_vault import OciVault
from lockstep.timing import RUN
from tests.infrastructure.terraform.stack import (
    CONFIGURATION,
    PLAN_DIGEST,
    ROOT,
    Deployment,
    Document,
    Stack,
    messages,
    needs_tools,
    plan_document,
    run_tool,
    succeeded,
    with_image,
)

KEPT = {"oci_kms_vault", "oci_kms_key", "oci_vault_secret", "oci_objectstorage_bucket"}
"""Types that hold credentials or the audit log, or the keys to them."""
AWS_ONLY = {"aws": {"oci_key_secret": "lockstep/oci-key"}}


def parsed(plan: Document) -> Plan:
    return parse_plan(json.dumps(plan), base=Path())


def names_in_vault(plan: Plan) -> Iterator[str]:
    vault = plan.store(OciVault)
    assert isinstance(vault, OciVault)
    for credential in plan.credentials:
        for secret in (credential.secret_names.app_user, credential.secret_names.connection_blob):
            yield from (slot_name(secret, slot) for slot in range(vault.ring))
    assert plan.audit.oci
    yield oci_name(plan.audit.oci.mac_secret)
    if plan.runners.oci:
        yield oci_name(plan.runners.oci.aws_key_secret or "")
        yield from map(oci_name, names_in_oci(plan))


def secret_names(deployment: Deployment) -> list[str]:
    return sorted(s["secret_name"] for s in deployment.secrets.values())


# ---- Terraform's own checks


@needs_tools
def test_the_configuration_is_formatted_and_valid(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    formatted, valid = stack.run(("fmt", None), ("validate", None))
    assert formatted["code"] == 0, formatted["value"]
    assert valid["value"]["diagnostics"] == []


@needs_tools
def test_a_second_apply_changes_nothing(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    (planned,) = stack.run(("plan", None), **with_image())
    assert planned["code"] == 0, messages([planned])


# ---- the plan decides


@needs_tools
def test_the_secrets_are_those_that_the_code_reads(stack: Stack, deployed: Deployment) -> None:
    assert secret_names(deployed) == sorted(names_in_vault(parsed(stack.plan)))
    assert set(deployed.outputs["slots"]) >= {"multi-cloud.app_user.0", "multi-cloud.connection_blob.3"}
    assert set(deployed.outputs["secrets_to_fill_in"]) == {
        "lockstep.aws-key",
        "lockstep.admin.orders",
        "lockstep.admin.reports",
    }


@needs_tools
def test_names_and_defaults_follow_the_plan_as_the_code_does(tmp_path: Path) -> None:
    plan = plan_document(runners=AWS_ONLY)
    plan["stores"][1]["ring"] = 2
    named = {"app_user": "other/user", "connection_blob": "other/blob"}
    plan["credentials"] = [
        {**plan["credentials"][0], "username": "first", "id": "a/b/c", "interval": "2h"},
        {**plan["credentials"][1], "username": "second", "id": "bare", "interval": "120 m"},
        {**plan["credentials"][1], "username": "third", "id": "named", "interval": "1d", "secrets": named},
    ]
    stack = Stack.new(tmp_path, plan)
    assert secret_names(stack.apply()) == sorted(names_in_vault(parsed(plan)))


@needs_tools
def test_there_is_a_runner_only_if_the_plan_has_one(tmp_path: Path) -> None:
    stack = Stack.new(tmp_path, plan_document(runners=AWS_ONLY))
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
    # The doctor expects them.
    plans = [
        {f"c{m}-{n}": timedelta(minutes=m) for m, number in counts.items() for n in range(number)}
        for counts, _ in cases
    ]
    for plan, run in zip(plans, runs, strict=True):
        assert oci_runner.crons(shards(plan)) == set(run)


def schedules(folder: Path, cases: list[dict[int, int]]) -> list[list[str]]:
    shutil.copytree(CONFIGURATION / "runner", folder / "runner")
    modules = {f"case{i}": runner_module(f"case{i}", case) for i, case in enumerate(cases)}
    document = {
        "variable": {"tenancy_ocid": {}},
        "provider": {"oci": [{}, {"alias": "home"}]},
        "terraform": {"required_providers": {"oci": {"source": "oracle/oci"}}},
        "module": modules,
        "output": {name: {"value": f"${{module.{name}.schedules}}"} for name in modules},
    }
    (folder / "main.tf.json").write_text(json.dumps(document))
    results = run_tool(folder, ("init", None), ("apply", None), ("show", None))
    succeeded(results)
    outputs = results[-1]["value"]["values"]["outputs"]
    return [outputs[name]["value"] for name in modules]


def runner_module(name: str, credentials: dict[int, int]) -> Document:
    ids = {"vault_id": "ocid1.vault.oc1..aaaa", "own_compartment_id": "ocid1.compartment.oc1..bbbb"}
    return {
        "source": "./runner",
        "providers": {"oci": "oci", "oci.home": "oci.home"},
        "name": name,
        "tenancy_ocid": "${var.tenancy_ocid}",
        "compartment_id": "ocid1.compartment.oc1..aaaa",
        "image": "fra.ocir.io/tenant/lockstep:1",
        "image_digest": None,
        "published_plan": f"oci://tenant/lockstep-audit-plans/plans/{PLAN_DIGEST}",
        "memory_in_mbs": 512,
        "subnet_ids": ["ocid1.subnet.oc1..aaaa"],
        "network_security_group_ids": [],
        "credentials": credentials,
        "paused": False,
        "log_retention_days": 30,
        "alarm_email": None,
        "shape": "GENERIC_X86",
        "freeform_tags": {},
        "defined_tags": None,
        "function_dynamic_group_ocid": None,
        "schedules_dynamic_group_ocid": None,
        "topic_ocid": None,
        "log_group_ocid": None,
        "missing": [],
        "made": ids,
        "in_plan": ids,
        "issuer_key": None,
        "grants": {},
        "strangers": [],
    }


# ---- what must not happen


@needs_tools
def test_the_state_holds_no_credential(deployed: Deployment) -> None:
    secrets = deployed.secrets.values()
    generated = [s for s in secrets if s["enable_auto_generation"]]
    assert [s["secret_name"] for s in generated] == ["lockstep.mac"]
    given = {c["content"] for s in secrets for c in s["secret_content"]}
    # Two placeholders: one for all rings, one for the secrets to fill in.
    assert len(given) == 2
    assert sum(len(s["secret_content"]) for s in secrets) == len(secrets) - len(generated)


@needs_tools
def test_a_plan_after_rotations_changes_nothing(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    state = stack.folder / "terraform.tfstate"
    before = state.read_text()
    changed = re.sub(r'"content": "[A-Za-z0-9+/=]+"', '"content": "bmV3"', before)
    assert changed != before
    state.write_text(changed)
    try:
        (planned,) = stack.run(("plan", None), **with_image())
    finally:
        state.write_text(before)
    assert planned["code"] == 0, messages([planned])


@needs_tools
def test_credentials_and_the_audit_log_cannot_be_destroyed(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    (result,) = stack.run(("destroy", None), **with_image())
    assert result["code"] == 1
    assert "Instance cannot be destroyed" in "\n".join(messages([result]))
    for kind, name, block in declared("resource"):
        if kind in KEPT:
            assert block["lifecycle"][0]["prevent_destroy"] is True, f"{kind}.{name}"


@needs_tools
def test_without_an_image_only_the_runner_is_removed(
    stack: Stack, deployed: Deployment, tmp_path: Path
) -> None:
    left = {r["address"] for r in stack.copy(tmp_path).apply().resources}
    gone = {r["address"] for r in deployed.resources} - left
    assert gone
    assert all(address.startswith("module.runner[0].") for address in gone)
    assert not any(address.startswith("module.runner") for address in left)


@needs_tools
def test_a_runner_whose_plan_names_another_vault_is_refused(
    stack: Stack, deployed: Deployment, tmp_path: Path
) -> None:
    copy = stack.copy(tmp_path)
    copy.store["vault_id"] = "ocid1.vault.oc1..another"
    (result,) = copy.run(("plan", None), **with_image())
    assert f"vault_id in the plan: {deployed.outputs['vault_id']}" in "\n".join(messages([result]))


@needs_tools
@pytest.mark.parametrize(
    ("interval", "is_refused"), [("25m", True), ("15m", True), ("1h 30m", True), ("30 m", False)]
)
def test_an_interval_needs_a_cron_expression(
    stack: Stack, deployed: Deployment, tmp_path: Path, interval: str, *, is_refused: bool
) -> None:
    assert deployed.resources
    copy = stack.copy(tmp_path)
    for credential in copy.plan["credentials"]:
        credential["interval"] = interval
    (result,) = copy.run(("plan", None), **with_image())
    assert (
        "must be 20m, 30m, hours that divide a day" in " ".join("\n".join(messages([result])).split())
    ) is is_refused
    assert (result["code"] == 1) is is_refused


@needs_tools
@pytest.mark.parametrize(
    ("change", "is_refused"),
    [
        ({"host": "${HOST}"}, True),
        ({"host": "$${HOST}"}, False),
        ({}, False),
    ],
)
def test_a_plan_has_no_variables(
    stack: Stack, deployed: Deployment, tmp_path: Path, change: Document, *, is_refused: bool
) -> None:
    assert deployed.resources
    copy = stack.copy(tmp_path)
    copy.plan["databases"][0] |= change
    (result,) = copy.run(("plan", None), **with_image())
    text = " ".join("\n".join(messages([result])).split())
    assert ("has variables" in text) is is_refused


@needs_tools
def test_wrong_variables_are_refused_with_a_reason(stack: Stack, deployed: Deployment) -> None:
    assert deployed.resources
    (result,) = stack.run(
        ("plan", None),
        tenancy_ocid="acme",
        plan_file="nowhere.yaml",
        image="lockstep",
        image_digest="latest",
        subnet_ids=["subnet-1"],
        aws_runner_public_key="-----BEGIN PRIVATE KEY-----",
    )
    # Terraform wraps lines.
    text = " ".join("\n".join(messages([result])).split())
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
    function = deployed.one("oci_functions_function")
    func = YAML(typ="safe").load(ROOT / "oci_fn/func.yaml")
    assert function["detached_mode_timeout_in_seconds"] == RUN.total_seconds()
    assert function["timeout_in_seconds"] == func["timeout"]
    assert int(function["memory_in_mbs"]) == func["memory"]


@needs_tools
def test_the_doctor_knows_the_names(deployed: Deployment) -> None:
    assert deployed.one("oci_functions_application")["display_name"] == DEFAULT_STACK
    assert deployed.one("oci_functions_function")["display_name"] == oci_runner.FUNCTION
    alarms = deployed.all("oci_monitoring_alarm").values()
    assert all(alarm["display_name"].startswith(f"{DEFAULT_STACK}: ") for alarm in alarms)


@needs_tools
def test_failed_runs_and_missing_calls_raise_alarms(deployed: Deployment) -> None:
    topic, function = deployed.one("oci_ons_notification_topic"), deployed.one("oci_functions_function")
    (destination,) = function["failure_destination"]
    assert (destination["kind"], destination["topic_id"]) == ("NOTIFICATION", topic["id"])
    found = deployed.all("oci_monitoring_alarm").items()
    alarms = {address.removeprefix('standby["').removesuffix('"]'): values for address, values in found}
    assert {a["namespace"] for a in alarms.values()} == {"oci_faas"}
    assert all(a["destinations"] == [topic["id"]] and function["id"] in a["query"] for a in alarms.values())
    assert alarms["absent"]["query"].startswith("FunctionInvocationCount[60m]")
    # The first trigger comes within 20 minutes of the deployment or the end of a pause.
    assert (alarms["absent"]["pending_duration"], alarms["absent"]["is_enabled"]) == ("PT30M", False)
    # One failure is healed by the next run; two of three are for people.
    assert [alarms[name]["severity"] for name in ("absent", "failed", "failing")] == [
        "WARNING",
        "WARNING",
        "CRITICAL",
    ]
    assert "FunctionResponseCount[60m]" in alarms["failing"]["query"]
    assert alarms["failing"]["query"].endswith(".sum() >= 2")
    (configuration,) = deployed.one("oci_logging_log")["configuration"]
    assert configuration["source"][0]["resource"] == deployed.one("oci_functions_application")["id"]


@needs_tools
def test_the_audit_bucket_is_archived_versioned_private_and_has_its_own_key(deployed: Deployment) -> None:
    bucket = deployed.all("oci_objectstorage_bucket")["audit[0]"]
    keys = deployed.all("oci_kms_key")
    assert (bucket["storage_tier"], bucket["versioning"], bucket["access_type"]) == (
        "Archive",
        "Enabled",
        "NoPublicAccess",
    )
    assert bucket["kms_key_id"] == keys["audit[0]"]["id"]
    assert {s["key_id"] for s in deployed.secrets.values()} == {keys["secrets[0]"]["id"]}


@needs_tools
def test_the_function_reads_the_plan_of_the_digest_from_a_bucket_of_its_own(
    stack: Stack, deployed: Deployment
) -> None:
    compiled = parse_plan(json.dumps(stack.plan), base=Path()).compiled
    said = deployed.one("oci_functions_function")["config"]["LOCKSTEP_PLAN"]
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
        (refused,) = stack.run(("plan", None), **with_image(plan_digest=digest))
        assert complaint in " ".join("\n".join(messages([refused])).split())


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
