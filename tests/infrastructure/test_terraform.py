"""What the Terraform configuration makes of a plan: its secrets, its functions, its alarms, and what it refuses."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lockstep.operate.secrets import ring_terms, slots_in_oci
from lockstep.plan.credentials import names_in_oci
from lockstep.plan.model import Plan
from lockstep.plan.published import place_in_oci, place_of
from lockstep.protocol.deadlines import RUN
from lockstep.protocol.names import DEFAULT_STACK, DOCTOR, oci_name
from lockstep.protocol.schedule import shards
from lockstep.runtime.wiring import DOCTOR_VARIABLE
from tests.docs.pages import anchors
from tests.infrastructure.terraform import plain
from tests.infrastructure.terraform.case import (
    CONFIGURATION,
    DIGESTS,
    KEY_OF_AWS,
    LOG,
    PLAN_DIGEST,
    ROOT,
    Deployment,
    Stack,
    needs_tools,
    plan_document,
    run_tool,
    with_image,
)
from tests.support.standby import standby_minutes

pytestmark = needs_tools

KEPT = {"oci_kms_vault", "oci_kms_key", "oci_vault_secret", "oci_objectstorage_bucket"}
"""Types that hold credentials or the audit log, or the keys to them."""
TAGGED_BY_NOTHING = {
    *("oci_identity_user_capabilities_management", "oci_identity_user_group_membership", "time_sleep"),
}
NAMED_ELSEWHERE = {
    *("oci_vault_secret", "oci_objectstorage_bucket", "oci_ons_subscription", "oci_functions_function")
}
"""Named in the plan, or without a name of their own in the tenancy."""
FUNCTION, BUCKET, KEY = "oci_functions_function", "oci_objectstorage_bucket", "oci_kms_key"
SCHEDULE = "oci_resource_scheduler_schedule"


# ---- the plan decides


def names_in_vault(plan: Plan) -> Iterator[str]:
    yield from slots_in_oci(plan)
    assert plan.audit.oci
    yield oci_name(plan.audit.oci.mac_secret)
    if plan.runners.oci:
        yield oci_name(plan.runners.oci.aws_key_secret or "")
        yield from map(oci_name, names_in_oci(plan))


def secret_names(deployment: Deployment) -> list[str]:
    return sorted([*(s["secret_name"] for s in deployment.secrets.values()), *deployment.outputs["slots"]])


def test_the_secrets_are_those_of_the_code_and_the_state_has_none(stack: Stack, deployed: Deployment) -> None:
    assert secret_names(deployed) == sorted(names_in_vault(stack.parsed))
    by_hand = {"lockstep.aws-key", "lockstep.admin.orders", "lockstep.admin.reports"}
    assert set(deployed.outputs["secrets_to_fill_in"]) == by_hand
    secrets = deployed.secrets.values()
    generated = [s["secret_name"] for s in secrets if s.get("enable_auto_generation")]
    given = [c["content"] for s in secrets for c in s.get("secret_content", [])]
    assert (generated, len(given), len({*given})) == (["lockstep.mac"], len(secrets) - 1, 1)
    [_, read] = deployed.outputs["application_grants"]["batch"]
    of_batch = [ocid for name, ocid in deployed.outputs["slots"].items() if name.startswith("batch.")]
    assert of_batch
    assert all(ocid in read for ocid in of_batch)


def test_names_and_defaults_follow_the_plan_as_the_code_does() -> None:
    plan = plan_document(runners={"aws": KEY_OF_AWS})
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
    # There is a runner only if the plan has one.
    made = stack.apply(**with_image())
    assert secret_names(made) == sorted(names_in_vault(stack.parsed))
    assert not made.all(FUNCTION)
    assert "function_id" not in made.outputs


def test_what_has_left_the_plan_stays_where_it_is_named(fresh: Stack, deployed: Deployment) -> None:
    del fresh.plan["credentials"][1], fresh.plan["databases"][1]
    fresh.plan["credentials"][0]["databases"] = ["orders"]
    left = [name for name in deployed.outputs["slots"] if name.startswith(("batch.", "connection"))]
    assert left
    assert "list them in retired_slots: batch.0, " in fresh.refused()
    fewer = fresh.apply(retired_slots=left)
    assert fewer.outputs["slots"].keys() == deployed.outputs["slots"].keys() - {*left}
    by_hand = "lockstep.admin.reports"
    assert deployed.secrets.keys() - fewer.secrets.keys() == {f'by_hand["{by_hand}"]'}
    assert fresh.apply(retired_slots=left, retired_secrets=[by_hand]).secrets == deployed.secrets


@pytest.mark.parametrize(
    "form", [{"admin_iam": "lockstep_rotator"}, {"admin_credential": "batch"}], ids=["IAM", "a credential"]
)
def test_only_admins_in_vault_have_a_secret_to_fill_in(form: dict[str, str]) -> None:
    stack = Stack(plan=plan_document())
    for database in stack.plan["databases"]:
        database.pop("admin_secret"), database.pop("oci_admin_secret", None)
        database.update(form)
    assert set(stack.apply().outputs["secrets_to_fill_in"]) == {"lockstep.aws-key"}


STANDBY = [
    ({20: 200}, [10, 30, 50]),
    ({60: 200}, [30]),
    ({7 * 1440: 1}, [30]),
    ({20: 1, 30: 1}, [10, 15, 30, 45, 50]),
    ({20: 201}, [2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58]),
    ({60: 1500, 30: 5}, [0, 6, 12, 15, 18, 24, 30, 36, 42, 45, 48, 54]),
    ({120: 1001}, [6, 18, 30, 42, 54]),
    ({1440: 2001, 7 * 1440: 10}, [6, 18, 30, 42, 54]),
    ({20: 10_000}, list(range(60))),
]
"""By interval in minutes, how many credentials have it; and the minutes of an hour at which the standby is called."""


def test_the_standby_is_called_half_an_interval_after_each_rotation_and_every_hour(tmp_path: Path) -> None:
    """By the locals of the schedules alone, for several plans at once."""
    text = (CONFIGURATION / "runner/schedules.tf").read_text()
    (computed,) = re.findall(r"^locals \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    result = 'output "minutes" { value = keys(local.crons) }'
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner/main.tf").write_text(f'variable "credentials" {{}}\n{computed}{result}')
    names = [f"case{i}" for i in range(len(STANDBY))]
    document = {
        "module": {
            name: {"source": "./runner", "credentials": case}
            for name, (case, _) in zip(names, STANDBY, strict=True)
        },
        "output": {name: {"value": f"${{module.{name}.minutes}}"} for name in names},
    }
    (tmp_path / "main.tf.json").write_text(json.dumps(document))
    found = run_tool("outputs", folder=tmp_path)["value"]
    for name, (counts, minutes) in zip(names, STANDBY, strict=True):
        assert [*map(int, found[name]["value"])] == minutes
        # `tests/unit/test_takeover.py` counts with them.
        plan = {f"c{m}-{n}": timedelta(minutes=m) for m, number in counts.items() for n in range(number)}
        assert standby_minutes(shards(plan)) == tuple(minutes)


def test_every_name_has_the_prefix_and_everything_has_the_tags(stack: Stack, deployed: Deployment) -> None:
    # Those that the tenancy sets by itself are left alone.
    assert all(s["defined_tags"] is None for s in deployed.secrets.values())
    tags = {"Finance.CostCenter": "42"}
    made = stack.apply(
        **with_image(
            name="Acme-prod",
            freeform_tags={"team": "data"},
            defined_tags=tags,
            alarm_email="ops@example.com",
            audit_break_glass_group_ocid="ocid1.group.oc1..aaaa",
        )
    )
    for address, values in made.resources.items():
        kind = address.partition(".")[0]
        if kind not in TAGGED_BY_NOTHING:
            assert values["freeform_tags"] == {"team": "data", "lockstep-stack": "Acme-prod"}, address
            assert values["defined_tags"] == tags, address
        if kind not in TAGGED_BY_NOTHING | NAMED_ELSEWHERE:
            assert (values.get("display_name") or values["name"]).startswith("Acme-prod"), address
    # So has what the command makes.
    for deployment, wanted in ((deployed, {}), (made, tags)):
        terms = ring_terms(deployment.outputs["secrets"], region="eu-frankfurt-1")
        assert (terms.vault_id, terms.defined_tags or {}) == (deployment.outputs["vault_id"], wanted)


# ---- what must not happen


def test_what_holds_credentials_or_the_log_cannot_be_destroyed_but_by_a_trial() -> None:
    declared = plain.blocks(CONFIGURATION, "resource")
    life = {".".join(labels): body.get("lifecycle", [{}])[0] for labels, body in declared}
    kept = {address for address in life if address.partition(".")[0] in KEPT}
    protected = {address for address, block in life.items() if block.get("prevent_destroy")}
    assert {"oci_objectstorage_bucket.audit"} <= kept <= protected
    overrides = (CONFIGURATION / "trial_override.tf.example").read_text()
    overridden = {
        ".".join(names) for names in re.findall(r'^resource "(\w+)" "(\w+)"', overrides, re.MULTILINE)
    }
    # An administrator deletes the application of sessions (`federation.tf` says why).
    assert overridden | {"oci_identity_domains_app.aws_runner"} == protected
    # What people, the command and runs change is left alone.
    generated = {"secret_generation_context", "enable_auto_generation"}
    ignored = {a: {*block["ignore_changes"]} for a, block in life.items() if "ignore_changes" in block}
    wanted = {
        "oci_vault_secret.by_hand": {"secret_content", "metadata"},
        "oci_vault_secret.mac": {"secret_content", "metadata"} | generated,
    }
    assert ignored.items() >= wanted.items()


def test_without_an_image_only_the_runner_is_missing(stack: Stack, deployed: Deployment) -> None:
    left = stack.apply().resources
    gone = deployed.resources.keys() - left.keys()
    assert not left.keys() - deployed.resources.keys()
    assert {"oci_functions_function.rotate", "oci_identity_policy.schedules"} <= gone
    assert all(values == deployed.resources[address] for address, values in left.items())


@pytest.mark.parametrize(
    ("interval", "host", "complaint"),
    [
        ("30 m", "$${HOST}", ""),
        ("25m", "h", "must be 20m, 30m, hours that divide a day"),
        ("20m", "${HOST}", "has variables"),
    ],
)
def test_an_interval_needs_a_cron_expression_and_a_plan_has_no_variables(
    fresh: Stack, interval: str, host: str, complaint: str
) -> None:
    for credential in fresh.plan["credentials"]:
        credential["interval"] = interval
    fresh.plan["databases"][0]["host"] = host
    if complaint:
        assert complaint in fresh.refused(**with_image())
    else:
        assert fresh.apply(**with_image())


def test_wrong_variables_are_refused_with_a_reason(fresh: Stack, deployed: Deployment) -> None:
    wrong: dict[str, tuple[object, str]] = {
        "tenancy_ocid": ("acme", "tenancy_ocid must be the OCID of a tenancy"),
        "plan_file": ("nowhere.yaml", "plan_file does not exist"),
        "image": ("lockstep", "image must have a tag, such as fra.ocir.io"),
        "image_digest": ("latest", "image_digest must be sha256"),
        "plan_digest": ("1234", "must be 64 hexadecimal digits"),
        "subnet_ids": (["subnet-1"], "subnet_ids must be OCIDs of subnets"),
        "audit_retention_locked_from": ("soon", "must be a time such as 2030-01"),
        "audit_break_glass_group_ocid": ("admins", "must be the OCID of a group"),
    }
    text = fresh.refused(**{name: value for name, (value, _) in wrong.items()})
    assert [complaint for _, complaint in wrong.values() if complaint not in text] == []
    both = {"audit_retention_locked_from": "2030-01-31T00:00:00Z", "audit_versions": True}
    assert "with audit_versions there is none" in fresh.refused(**both)
    assert "plan_digest must be set" in fresh.refused(**with_image(plan_digest=None))
    fresh.store["vault_id"] = "ocid1.vault.oc1..another"
    assert f"vault_id in the plan: {deployed.outputs['vault_id']}" in fresh.refused(**with_image())


# ---- the functions and their surroundings


def test_functions_end_before_the_lease_read_the_published_plan_and_have_the_names_that_the_doctor_knows(
    stack: Stack, deployed: Deployment
) -> None:
    functions = {f["display_name"]: f for f in deployed.all(FUNCTION).values()}
    rotate, digest = functions["rotate"], functions["digest"]
    func = YAML(typ="safe").load(ROOT / "oci_fn/func.yaml")
    assert rotate["detached_mode_timeout_in_seconds"] == RUN.total_seconds()
    assert (rotate["timeout_in_seconds"], int(rotate["memory_in_mbs"])) == (func["timeout"], func["memory"])
    place = place_in_oci(stack.parsed.compiled, PLAN_DIGEST)
    config = rotate["config"]
    assert place_of(config["LOCKSTEP_PLAN"]) == place
    assert config["LOCKSTEP_PLAN"] == str(place)
    assert functions[DOCTOR]["config"] == {**config, DOCTOR_VARIABLE: "1"}
    assert deployed.one("oci_functions_application")["display_name"] == DEFAULT_STACK
    key = deployed.all(KEY)["digests[0]"]
    assert digest["config"] == {**config, "LOCKSTEP_DIGEST_KEY": f"{key['id']}@https://crypto"}
    assert (digest["timeout_in_seconds"], digest["detached_mode_timeout_in_seconds"]) == (300, 3300)
    # 2,048 bits.
    assert [(s["algorithm"], s["length"]) for s in key["key_shape"]] == [("RSA", 256)]
    assert key["protection_mode"] == "HSM"
    assert deployed.outputs["digest_public_key"].startswith("-----BEGIN PUBLIC KEY-----")


def test_digests_are_made_each_hour_whatever_is_paused(stack: Stack, deployed: Deployment) -> None:
    schedules = stack.apply(**with_image(paused=True)).all(SCHEDULE)
    digest = schedules.pop("digest")
    assert {s["recurrence_details"] for s in schedules.values()} == {f"{m} * * * *" for m in (10, 30, 50)}
    assert (digest["recurrence_details"], digest["state"]) == ("5 * * * *", "ACTIVE")
    assert [one["id"] for one in digest["resources"]] == [deployed.all(FUNCTION)["digest"]["id"]]
    assert {one["state"] for one in schedules.values()} == {"INACTIVE"}


def test_failed_runs_and_missing_calls_raise_alarms(deployed: Deployment) -> None:
    topic, functions = deployed.one("oci_ons_notification_topic"), deployed.all(FUNCTION)
    for name in ("rotate", "digest"):
        (destination,) = functions[name]["failure_destination"]
        assert (destination["kind"], destination["topic_id"]) == ("NOTIFICATION", topic["id"])
    found = deployed.all("oci_monitoring_alarm").items()
    alarms = {address.removeprefix('standby["').removesuffix('"]'): values for address, values in found}
    # One failure is made good by the next run; two of three are for people. Digests are due while it is paused.
    queries = {
        "absent": "FunctionInvocationCount[60m]",
        "failed": "FunctionResponseCount[5m]",
        "failing": "FunctionResponseCount[60m]",
        "digest_absent": "FunctionResponseCount[3h]",
        "digest_failed": "FunctionResponseCount[",
    }
    assert alarms.keys() == queries.keys()
    for name, begins in queries.items():
        alarm, of_digest = alarms[name], name.startswith("digest_")
        assert (alarm["namespace"], alarm["destinations"]) == ("oci_faas", [topic["id"]])
        assert functions["digest" if of_digest else "rotate"]["id"] in alarm["query"]
        assert alarm["query"].startswith(begins)
        heading = f"oci-{alarm['display_name'].partition(': ')[2].replace(' ', '-')}"
        assert alarm["body"].endswith(f" Then: docs/alarms.md#{heading}")
        assert heading in anchors(ROOT / "docs/alarms.md")
        assert alarm["is_enabled"] or not of_digest
    assert [alarms[name]["severity"] for name in ("absent", "failed", "failing")] == [
        *["WARNING"] * 2,
        "CRITICAL",
    ]
    # The first trigger comes within 20 minutes of the deployment or the end of a pause.
    assert (alarms["absent"]["pending_duration"], alarms["absent"]["is_enabled"]) == ("PT30M", False)
    assert alarms["failing"]["query"].endswith(".sum() >= 2")
    assert 'responseType = "Success"' in alarms["digest_absent"]["query"]
    (configuration,) = deployed.one("oci_logging_log")["configuration"]
    assert configuration["source"][0]["resource"] == deployed.one("oci_functions_application")["id"]


def test_buckets_are_private_entries_archived_others_readable(deployed: Deployment) -> None:
    buckets, keys = deployed.all(BUCKET), deployed.all(KEY)
    audit_key = keys["audit[0]"]["id"]
    rows = {
        "audit[0]": (LOG, "Archive", "Disabled", audit_key),
        "digests[0]": (DIGESTS, "Standard", "Disabled", audit_key),
        "plans[0]": (f"{LOG}-plans", "Standard", "Enabled", audit_key),
    }
    assert buckets.keys() == rows.keys()
    for address, row in rows.items():
        bucket = buckets[address]
        assert bucket["access_type"] == "NoPublicAccess"
        assert tuple(bucket[a] for a in ("name", "storage_tier", "versioning", "kms_key_id")) == row, address
    assert {s["key_id"] for s in deployed.secrets.values()} == {keys["secrets[0]"]["id"]}


def test_a_retention_rule_of_what_the_plan_says_is_the_default_and_locked_on_demand(
    fresh: Stack, stack: Stack, deployed: Deployment
) -> None:
    fresh.plan["audit"]["aws"]["retention"] = "36h"
    at = "2030-01-31T00:00:00Z"
    locked = stack.apply(audit_retention_locked_from=at)
    for deployment, days, since in ((deployed, "400", None), (fresh.apply(), "2", None), (locked, "400", at)):
        for address in ("audit[0]", "digests[0]"):
            bucket = deployment.all(BUCKET)[address]
            # The tenancy refuses a bucket that has both.
            assert bucket["versioning"] == "Disabled"
            [rule] = bucket["retention_rules"]
            assert rule["duration"] == [{"time_amount": days, "time_unit": "DAYS"}]
            # Whoever may manage rules can remove one that is not locked.
            assert rule["time_rule_locked"] == since
    # Versions take its place for a trial.
    buckets = stack.apply(audit_versions=True).all(BUCKET)
    for address in ("audit[0]", "digests[0]"):
        assert (buckets[address]["versioning"], buckets[address]["retention_rules"]) == ("Enabled", [])


def test_the_configuration_is_formatted() -> None:
    formatted = run_tool("fmt")
    assert formatted["code"] == 0, formatted["value"]
