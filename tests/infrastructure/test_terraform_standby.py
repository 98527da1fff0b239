"""`make deploy-oci` neither removes nor pauses a standby that is deployed, unless it is told so."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cdk.standby import FUNCTION, SCHEDULE, Losses
from tests.infrastructure.terraform.stack import (
    IMAGE,
    ROOT,
    Deployment,
    Stack,
    needs_tools,
    plan_document,
    succeeded,
    with_image,
)

COMMAND = "make deploy-oci"


def losses(stack: Stack, **variables: object) -> Losses:
    results = stack.run(("plan_out", "planned"), ("show_plan", "planned"), **variables)
    succeeded(results)
    return Losses.of(results[-1]["value"])


def refusal(found: Losses, *, may_remove: bool = False, may_pause: bool = False) -> str:
    return found.refusal("lockstep.yaml", may_remove=may_remove, may_pause=may_pause) or ""


@needs_tools
def test_a_plan_that_removes_or_pauses_the_standby_is_refused(
    stack: Stack, deployed: Deployment, tmp_path: Path
) -> None:
    assert deployed.resources
    copy = stack.copy(tmp_path)
    assert refusal(losses(copy, **with_image(paused=True))) == ""
    assert f"TF_VAR_image={IMAGE} {COMMAND}\n" in refusal(losses(copy))
    assert refusal(losses(copy), may_remove=True) == ""

    copy.apply(**with_image(paused=False))
    assert refusal(losses(copy, **with_image(paused=False, plan_digest="f" * 64))) == ""
    bare = losses(copy)
    assert f"TF_VAR_image={IMAGE} TF_VAR_paused=false {COMMAND}\n" in refusal(bare)
    assert refusal(bare, may_remove=True) == ""
    pausing = losses(copy, **with_image())
    assert f"  TF_VAR_paused=false {COMMAND}\nTo pause it: {COMMAND} PAUSE_STANDBY=1" in refusal(pausing)
    assert refusal(pausing, may_pause=True) == ""

    no_runner = Losses(image=IMAGE, has_image=True, pauses=True)
    assert "the plan has no runners.oci" in refusal(no_runner)


PLANNED = {
    "variables": {"image": {"value": ""}},
    "resource_changes": [
        {"type": FUNCTION, "change": {"actions": ["delete"], "before": {"image": IMAGE}, "after": None}},
        {"type": SCHEDULE, "change": {"actions": ["delete"], "before": {"state": "ACTIVE"}, "after": None}},
    ],
}


@pytest.mark.parametrize("words", [[], ["REMOVE_STANDBY=1"]])
def test_it_is_refused_before_anything_is_done(tmp_path: Path, words: list[str]) -> None:
    log, planned = tmp_path / "log", tmp_path / "planned.json"
    planned.write_text(json.dumps(PLANNED))
    terraform = tmp_path / "terraform"
    terraform.write_text(f'#!/bin/sh\necho "$2" >> {log}\nif [ "$2" = show ]; then cat {planned}; fi\n')
    terraform.chmod(0o755)
    plan = tmp_path / "production.yaml"
    plan.write_text(json.dumps(plan_document()).replace("example.com", "internal"))
    settings = [f"TERRAFORM={terraform}", f"PLAN={plan}", *words]
    done = subprocess.run(  # noqa: S603 - make, whose set-up is left out
        ["make", "--silent", "--old-file=setup", "deploy-oci", *settings],  # noqa: S607 - likewise
        cwd=ROOT,
        env={**os.environ, "OCI_CONFIG_FILE": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert log.read_text().split() == ["init", "plan", "show"], done.stderr
    # With the word it goes on to the publication, which finds no identity.
    told = (
        "OciConfigMissingError"
        if words
        else f"TF_VAR_image={IMAGE} TF_VAR_paused=false make deploy-oci PLAN={plan}"
    )
    assert told in done.stderr, done.stderr
