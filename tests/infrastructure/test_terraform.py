"""What the Terraform configuration makes of a plan: its secrets, its functions, its alarms, and what it refuses."""

import json
import os
import re
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cdk.standby import FUNCTION as STANDBY_FUNCTION
from cdk.standby import SCHEDULE, STANDBY, Losses
from lockstep.operate.secrets import ring_terms, slots_in_oci
from lockstep.plan.credentials import names_in_oci
from lockstep.plan.model import Plan
from lockstep.plan.published import place_in_oci, place_of
from lockstep.protocol.deadlines import RUN
from lockstep.protocol.names import DEFAULT_STACK, DOCTOR, oci_name
from lockstep.protocol.schedule import shards
from lockstep.runtime.wiring import DOCTOR_VARIABLE
from tests.docs.pages import anchors
from tests.infrastructure.terraform import case, plain
from tests.infrastructure.terraform.case import IMAGE, ROOT, Deployment, Document, keys, with_image
from tests.support.programs import ran
from tests.support.standby import standby_minutes

pytestmark = case.needs_tools

KEPT = {"oci_kms_vault", "oci_kms_key", "oci_vault_secret", "oci_objectstorage_bucket"}
"""Types that hold credentials or the audit log, or the keys to them."""
TAGGED_BY_NOTHING = {f"oci_identity_user_{of}" for of in ("capabilities_management", "group_membership")}
TAGGED_BY_NOTHING |= {"time_sleep"}
NAMED_ELSEWHERE = {
    *("oci_vault_secret", "oci_objectstorage_bucket", "oci_ons_subscription", "oci_functions_function")
}
"""Named in the plan, or without a name of their own in the tenancy."""
FUNCTION, BUCKET, KEY = "oci_functions_function", "oci_objectstorage_bucket", "oci_kms_key"
LOCKED_FROM = "2030-01-31T00:00:00Z"


# ---- the plan decides


def names_in_vault(plan: Plan) -> list[str]:
    assert plan.audit.oci
    admins = map(oci_name, names_in_oci(plan)) if plan.runners.oci else ()
    key = [oci_name(plan.runners.oci.aws_key_secret or "")] if plan.runners.oci else []
    return sorted([*slots_in_oci(plan), oci_name(plan.audit.oci.mac_secret), *key, *admins])


def secret_names(deployment: Deployment) -> list[str]:
    return sorted([*(s["secret_name"] for s in deployment.secrets.values()), *deployment.outputs["slots"]])


def retention(deployment: Deployment) -> set[tuple[str, str, bool]]:
    """How long the buckets of the audit log and its digests keep what they have."""
    buckets = [deployment.all(BUCKET)[address] for address in ("audit[0]", "digests[0]")]
    # The tenancy refuses a bucket that has both.
    assert all(b["versioning"] == ("Disabled" if b["retention_rules"] else "Enabled") for b in buckets)
    rules = [
        (rule["duration"][0], rule["time_rule_locked"]) for b in buckets for rule in b["retention_rules"]
    ]
    return {(d["time_amount"], d["time_unit"], locked == LOCKED_FROM) for d, locked in rules}


def test_the_secrets_are_those_of_the_code_and_the_state_has_none() -> None:
    stack, _, deployed = keys()
    assert secret_names(deployed) == names_in_vault(stack.parsed)
    by_hand = {"lockstep.aws-key", "lockstep.admin.orders", "lockstep.admin.reports"}
    assert set(deployed.outputs["secrets_to_fill_in"]) == by_hand
    secrets = deployed.secrets.values()
    generated = [s["secret_name"] for s in secrets if s.get("enable_auto_generation")]
    given = [c["content"] for s in secrets for c in s.get("secret_content", [])]
    assert (generated, len(given), len({*given})) == (["lockstep.mac"], len(secrets) - 1, 1)


def test_names_and_defaults_follow_the_plan_as_the_code_does() -> None:
    plan = case.plan_document(runners={"aws": case.KEY_OF_AWS})
    named = {"secret": "other/user", "connection_secret": "other/blob"}
    plan["credentials"] = [
        {**plan["credentials"][0], "username": "first", "id": "a/b/c", "interval": "2h"},
        {**plan["credentials"][1], "username": "second", "id": "bare", "interval": "120 m"},
        {**plan["credentials"][1], "username": "third", "id": "named", "interval": "1d", **named},
    ]
    plan["databases"][0]["host"] = "$${HOST}"  # No variable.
    plan["audit"]["aws"]["retention"] = "36h"
    stack = case.Stack(plan=plan)
    first = stack.apply()
    plan["databases"][0]["host"] = "h"
    # The signing key alone; the slots are made by `lockstep secrets create`.
    assert {address.partition("[")[0] for address in first.secrets} == {"mac"}
    assert (first.outputs["slots"], first.outputs["application_grants"]) == ({}, {})
    stack.create_slots(first.outputs["secrets"])
    # There is a runner only if the plan has one.
    made = stack.apply(**with_image())
    assert secret_names(made) == names_in_vault(stack.parsed)
    assert not made.all(FUNCTION)
    assert retention(made) == {("2", "DAYS", False)}


def test_what_has_left_the_plan_stays_where_it_is_named() -> None:
    stack, _, deployed = keys()
    fresh = stack.copy()
    del fresh.plan["credentials"][1], fresh.plan["databases"][1]
    fresh.plan["credentials"][0]["databases"] = ["orders"]
    left = [name for name in deployed.outputs["slots"] if name.startswith(("batch.", "connection"))]
    refused = fresh.refused(audit_retention_locked_from=LOCKED_FROM, audit_versions=True)
    assert "list them in retired_slots: batch.0, " in refused
    assert "with audit_versions there is none" in refused
    by_hand = ["lockstep.admin.reports"]
    fewer = fresh.apply(retired_slots=left, retired_secrets=by_hand, audit_versions=True)
    assert fewer.outputs["slots"].keys() == deployed.outputs["slots"].keys() - {*left}
    assert fewer.secrets == deployed.secrets
    # For a trial, versions take the place of rules.
    assert retention(fewer) == set()


STANDBYS = [
    *({20: 200}, {60: 200}, {7 * 1440: 1}, {20: 1, 30: 1}, {20: 201}, {60: 1500, 30: 5}, {120: 1001}),
    *({1440: 2001, 7 * 1440: 10}, {20: 10_000}),
]
"""By interval in minutes, how many credentials have it."""


def test_the_standby_is_called_half_an_interval_after_each_rotation_and_every_hour(tmp_path: Path) -> None:
    """By the locals of the schedules alone, for several plans at once."""
    text = (case.CONFIGURATION / "runner/schedules.tf").read_text()
    (computed,) = re.findall(r"^locals \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    result = 'output "minutes" { value = keys(local.crons) }'
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner/main.tf").write_text(f'variable "credentials" {{}}\n{computed}{result}')
    cases = {f"case{i}": counts for i, counts in enumerate(STANDBYS)}
    document = {
        "module": {name: {"source": "./runner", "credentials": counts} for name, counts in cases.items()},
        "output": {name: {"value": f"${{module.{name}.minutes}}"} for name in cases},
    }
    (tmp_path / "main.tf.json").write_text(json.dumps(document))
    found = case.run_tool("outputs", folder=tmp_path)["value"]
    for name, counts in cases.items():
        plan = {f"c{m}-{n}": timedelta(minutes=m) for m, number in counts.items() for n in range(number)}
        assert tuple(map(int, found[name]["value"])) == standby_minutes(shards(plan)), counts
    assert [*map(int, found["case0"]["value"])] == [10, 30, 50]


TAGS = {"Finance.CostCenter": "42"}


@cache
def of_acme() -> Deployment:
    """With the settings that are not defaults."""
    return keys()[0].apply(
        **with_image(
            name="Acme-prod",
            freeform_tags={"team": "data"},
            defined_tags=TAGS,
            alarm_email="ops@example.com",
            audit_break_glass_group_ocid="ocid1.group.oc1..aaaa",
            audit_retention_locked_from=LOCKED_FROM,
            paused=True,
        )
    )


def test_every_name_has_the_prefix_and_everything_has_the_tags() -> None:
    deployed, made = keys()[2], of_acme()
    # Those that the tenancy sets by itself are left alone.
    assert all(s["defined_tags"] is None for s in deployed.secrets.values())
    for address, values in made.resources.items():
        kind = address.partition(".")[0]
        if kind not in TAGGED_BY_NOTHING:
            assert values["freeform_tags"] == {"team": "data", "lockstep-stack": "Acme-prod"}, address
            assert values["defined_tags"] == TAGS, address
        if kind not in TAGGED_BY_NOTHING | NAMED_ELSEWHERE:
            assert (values.get("display_name") or values["name"]).startswith("Acme-prod"), address
    # So has what the command makes.
    for deployment, wanted in ((deployed, {}), (made, TAGS)):
        terms = ring_terms(deployment.outputs["secrets"], region="eu-frankfurt-1")
        assert (terms.vault_id, terms.defined_tags or {}) == (deployment.outputs["vault_id"], wanted)


# ---- what must not happen


def test_what_holds_credentials_or_the_log_cannot_be_destroyed_but_by_a_trial() -> None:
    declared = plain.blocks(case.CONFIGURATION, "resource")
    life = {".".join(labels): body.get("lifecycle", [{}])[0] for labels, body in declared}
    kept = {address for address in life if address.partition(".")[0] in KEPT}
    protected = {address for address, block in life.items() if block.get("prevent_destroy")}
    assert {"oci_objectstorage_bucket.audit"} <= kept <= protected
    overrides = (case.CONFIGURATION / "trial_override.tf.example").read_text()
    overridden = {
        ".".join(names) for names in re.findall(r'^resource "(\w+)" "(\w+)"', overrides, re.MULTILINE)
    }
    # An administrator deletes the application of sessions (`federation.tf` says why).
    assert overridden | {"oci_identity_domains_app.aws_runner"} == protected
    # What people, the command and runs change is left alone.
    for secret in ("by_hand", "mac"):
        assert {"secret_content", "metadata"} <= {*life[f"oci_vault_secret.{secret}"]["ignore_changes"]}


def test_without_an_image_only_the_runner_is_missing() -> None:
    _, left, deployed = keys()
    gone = deployed.resources.keys() - left.resources.keys()
    assert {"oci_functions_function.rotate", "oci_identity_policy.schedules"} <= gone
    assert left.resources.items() <= deployed.resources.items()


def test_what_is_wrong_is_refused_with_a_reason() -> None:
    stack, _, deployed = keys()
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
    text = stack.refused(**{name: value for name, (value, _) in wrong.items()})
    assert [complaint for _, complaint in wrong.values() if complaint not in text] == []
    fresh = stack.copy()
    fresh.store["vault_id"] = "ocid1.vault.oc1..another"
    fresh.plan["credentials"][0]["interval"] = "25m"
    text = fresh.refused(**with_image(plan_digest=None))
    assert "plan_digest must be set" in text
    assert f"vault_id in the plan: {deployed.outputs['vault_id']}" in text
    assert "must be 20m, 30m, hours that divide a day" in text
    fresh.plan["databases"][0]["host"] = "${HOST}"
    assert "has variables" in fresh.refused(**with_image())


# ---- the functions and their surroundings


def test_functions_end_before_the_lease_read_the_published_plan_and_have_the_names_that_the_doctor_knows() -> (
    None
):
    stack, _, deployed = keys()
    functions = {f["display_name"]: f for f in deployed.all(FUNCTION).values()}
    rotate, digest = functions["rotate"], functions["digest"]
    func = YAML(typ="safe").load(ROOT / "oci_fn/func.yaml")
    assert rotate["detached_mode_timeout_in_seconds"] == RUN.total_seconds()
    assert (rotate["timeout_in_seconds"], int(rotate["memory_in_mbs"])) == (func["timeout"], func["memory"])
    config = rotate["config"]
    assert place_of(config["LOCKSTEP_PLAN"]) == place_in_oci(stack.parsed.compiled, case.PLAN_DIGEST)
    assert functions[DOCTOR]["config"] == {**config, DOCTOR_VARIABLE: "1"}
    assert deployed.one("oci_functions_application")["display_name"] == DEFAULT_STACK
    key = deployed.all(KEY)["digests[0]"]
    assert digest["config"] == {**config, "LOCKSTEP_DIGEST_KEY": f"{key['id']}@https://crypto"}
    # 2,048 bits.
    assert [(s["algorithm"], s["length"]) for s in key["key_shape"]] == [("RSA", 256)]
    assert key["protection_mode"] == "HSM"


def test_digests_are_made_each_hour_whatever_is_paused() -> None:
    made = of_acme()
    schedules = made.all(SCHEDULE)
    digest = schedules.pop("digest")
    assert (digest["recurrence_details"], digest["state"]) == ("5 * * * *", "ACTIVE")
    assert [one["id"] for one in digest["resources"]] == [made.all(FUNCTION)["digest"]["id"]]
    assert {one["state"] for one in schedules.values()} == {"INACTIVE"}


def test_failed_runs_and_missing_calls_raise_alarms() -> None:
    deployed = keys()[2]
    topic, functions = deployed.one("oci_ons_notification_topic"), deployed.all(FUNCTION)
    for name in ("rotate", "digest"):
        (destination,) = functions[name]["failure_destination"]
        assert (destination["kind"], destination["topic_id"]) == ("NOTIFICATION", topic["id"])
    found = deployed.all("oci_monitoring_alarm").items()
    alarms = {address.removeprefix('standby["').removesuffix('"]'): values for address, values in found}
    assert alarms.keys() == {"absent", "failed", "failing", "digest_absent", "digest_failed"}
    for name, alarm in alarms.items():
        of_digest = name.startswith("digest_")
        assert (alarm["namespace"], alarm["destinations"]) == ("oci_faas", [topic["id"]])
        assert functions["digest" if of_digest else "rotate"]["id"] in alarm["query"]
        heading = f"oci-{alarm['display_name'].partition(': ')[2].replace(' ', '-')}"
        assert alarm["body"].endswith(f" Then: docs/alarms.md#{heading}")
        assert heading in anchors(ROOT / "docs/alarms.md")
        # Digests are due while it is paused.
        assert alarm["is_enabled"] or not of_digest
    # Three missed triggers, or hours; one failure is made good by the next run, two of three are for people.
    made = 'responseType = "Success"}.groupBy(resourceId).absent(3d)'
    for name, begins, ends in (
        ("absent", "FunctionInvocationCount[60m]", ".absent(3d)"),
        ("failing", "FunctionResponseCount[60m]", ".sum() >= 2"),
        ("digest_absent", "FunctionResponseCount[3h]", made),
    ):
        query = alarms[name]["query"]
        assert (query.startswith(begins), query.endswith(ends)) == (True, True), query
    # The first trigger comes within 20 minutes of the deployment or the end of a pause.
    assert (alarms["absent"]["pending_duration"], alarms["absent"]["is_enabled"]) == ("PT30M", False)


def test_buckets_are_private_entries_archived_others_readable_and_nothing_is_deleted_in_time() -> None:
    deployed = keys()[2]
    buckets, found = deployed.all(BUCKET), deployed.all(KEY)
    rows = {
        "audit[0]": (case.LOG, "Archive", "Disabled"),
        "digests[0]": (case.DIGESTS, "Standard", "Disabled"),
        "plans[0]": (f"{case.LOG}-plans", "Standard", "Enabled"),
    }
    assert buckets.keys() == rows.keys()
    for address, row in rows.items():
        bucket = buckets[address]
        assert (bucket["access_type"], bucket["kms_key_id"]) == ("NoPublicAccess", found["audit[0]"]["id"])
        assert tuple(bucket[a] for a in ("name", "storage_tier", "versioning")) == row, address
    assert {s["key_id"] for s in deployed.secrets.values()} == {found["secrets[0]"]["id"]}
    # Whoever may manage rules can remove one that is not locked, which is on demand.
    assert retention(deployed) == {("400", "DAYS", False)}
    assert retention(of_acme()) == {("400", "DAYS", True)}


# ---- `make deploy-oci` neither removes nor pauses a standby that is deployed, unless it is told so


def changed(kind: str, before: Document, after: Document | None, *, name: str = STANDBY) -> Document:
    action = "update" if after else "delete"
    return {"type": kind, "name": name, "change": {"actions": [action], "before": before, "after": after}}


def planned(*changes: Document, image: str = "") -> Document:
    """A plan, as `terraform show -json` prints it."""
    return {"variables": {"image": {"value": image}}, "resource_changes": changes}


GONE, ON, OFF = changed(STANDBY_FUNCTION, {"image": IMAGE}, None), {"state": "ACTIVE"}, {"state": "INACTIVE"}


def test_a_plan_that_removes_or_pauses_the_standby_is_refused() -> None:
    # The schedule of the digests stays on, which says nothing of the others.
    pausing = planned(changed(SCHEDULE, ON, OFF), changed(SCHEDULE, ON, ON, name="digest"), image=IMAGE)
    removing = planned(GONE, changed(SCHEDULE, OFF, None))
    paused = "  TF_VAR_paused=false make deploy-oci\nTo pause it: make deploy-oci PAUSE_STANDBY=1"
    for lost, may, told in (
        (Losses.of(removing), "may_remove", f"TF_VAR_image={IMAGE} make deploy-oci\n"),
        (Losses.of(pausing), "may_pause", paused),
        (Losses(image=IMAGE, has_image=True, pauses=True), "may_remove", "the plan has no runners.oci"),
    ):
        consent = {"may_remove": False, "may_pause": False}
        assert told in (lost.refusal("lockstep.yaml", **consent) or "")
        assert not lost.refusal("lockstep.yaml", **{**consent, may: True})
    kept = planned(changed(STANDBY_FUNCTION, {"image": IMAGE}, {"image": "other"}), image=IMAGE)
    assert not Losses.of(kept).refusal("lockstep.yaml", may_remove=False, may_pause=False)


@pytest.mark.parametrize("words", [[], ["REMOVE_STANDBY=1"]])
def test_it_is_refused_before_anything_is_done(tmp_path: Path, words: list[str]) -> None:
    log, shown, plan = (tmp_path / name for name in ("log", "shown.json", "production.yaml"))
    shown.write_text(json.dumps(planned(GONE, changed(SCHEDULE, ON, None))))
    terraform = tmp_path / "terraform"
    terraform.write_text(f'#!/bin/sh\necho "$2" >> {log}\nif [ "$2" = show ]; then cat {shown}; fi\n')
    terraform.chmod(0o755)
    plan.write_text(json.dumps(case.plan_document()).replace("example.com", "internal"))
    settings = [f"TERRAFORM={terraform}", f"PLAN={plan}", *words]
    done = ran(
        ["make", "--silent", "--old-file=deploy-setup", "deploy-oci", *settings],
        cwd=ROOT,
        env={**os.environ, "OCI_CONFIG_FILE": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert log.read_text().split() == ["init", "plan", "show"], done.stderr
    # With the word it goes on to the publication, which finds no identity.
    refused = f"TF_VAR_image={IMAGE} TF_VAR_paused=false make deploy-oci PLAN={plan}"
    assert ("OciConfigInvalidError" if words else refused) in done.stderr, done.stderr
