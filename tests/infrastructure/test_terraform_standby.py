"""`make deploy-oci` neither removes nor pauses a standby that is deployed, unless it is told so."""

import json
import os
from pathlib import Path

import pytest

from cdk.standby import FUNCTION, SCHEDULE, STANDBY, Losses
from tests.infrastructure.terraform.case import IMAGE, ROOT, Document, plan_document
from tests.support.programs import ran

COMMAND = "make deploy-oci"


def refusal(found: Losses, *, may_remove: bool = False, may_pause: bool = False) -> str:
    return found.refusal("lockstep.yaml", may_remove=may_remove, may_pause=may_pause) or ""


def planned(changes: list[Document], image: str = "") -> Losses:
    """What is lost by a plan, as `terraform show -json` prints it."""
    return Losses.of({"variables": {"image": {"value": image}}, "resource_changes": changes})


def changed(kind: str, before: Document, after: Document | None, *, name: str = STANDBY) -> Document:
    action = "update" if after else "delete"
    return {"type": kind, "name": name, "change": {"actions": [action], "before": before, "after": after}}


def test_a_plan_that_removes_or_pauses_the_standby_is_refused() -> None:
    gone = changed(FUNCTION, {"image": IMAGE}, None)
    paused = planned([gone, changed(SCHEDULE, {"state": "INACTIVE"}, None)])
    assert f"TF_VAR_image={IMAGE} {COMMAND}\n" in refusal(paused)
    assert refusal(paused, may_remove=True) == ""

    bare = planned([gone, changed(SCHEDULE, {"state": "ACTIVE"}, None)])
    assert f"TF_VAR_image={IMAGE} TF_VAR_paused=false {COMMAND}\n" in refusal(bare)
    assert refusal(bare, may_remove=True) == ""
    # The schedule of the digests stays on, which says nothing of the others.
    digests = changed(SCHEDULE, {"state": "ACTIVE"}, {"state": "ACTIVE"}, name="digest")
    pausing = planned([changed(SCHEDULE, {"state": "ACTIVE"}, {"state": "INACTIVE"}), digests], IMAGE)
    assert f"  TF_VAR_paused=false {COMMAND}\nTo pause it: {COMMAND} PAUSE_STANDBY=1" in refusal(pausing)
    assert refusal(pausing, may_pause=True) == ""
    assert refusal(planned([changed(FUNCTION, {"image": IMAGE}, {"image": "other"})], IMAGE)) == ""

    no_runner = Losses(image=IMAGE, has_image=True, pauses=True)
    assert "the plan has no runners.oci" in refusal(no_runner)


@pytest.mark.parametrize("words", [[], ["REMOVE_STANDBY=1"]])
def test_it_is_refused_before_anything_is_done(tmp_path: Path, words: list[str]) -> None:
    log, planned = tmp_path / "log", tmp_path / "planned.json"
    gone, off = changed(FUNCTION, {"image": IMAGE}, None), changed(SCHEDULE, {"state": "ACTIVE"}, None)
    document = {"variables": {"image": {"value": ""}}, "resource_changes": [gone, off]}
    planned.write_text(json.dumps(document))
    terraform = tmp_path / "terraform"
    terraform.write_text(f'#!/bin/sh\necho "$2" >> {log}\nif [ "$2" = show ]; then cat {planned}; fi\n')
    terraform.chmod(0o755)
    plan = tmp_path / "production.yaml"
    plan.write_text(json.dumps(plan_document()).replace("example.com", "internal"))
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
