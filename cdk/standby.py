"""Looks at what Terraform plans for the standby in OCI, before `make deploy-oci` does anything.

    python -m cdk.standby --plan lockstep.yaml [--remove] [--pause] -- -var plan_digest=…

Terraform's variables come from the shell or from a file, and are easily missing. Without `image` Terraform removes the
standby, and without `paused = false` it switches the schedules off, which shows only when AWS fails: both need a word.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cdk.settings import ROOT

CONFIGURATION = ROOT / "oci_fn/terraform"
FUNCTION = "oci_functions_function"
SCHEDULE = "oci_resource_scheduler_schedule"
STANDBY = "standby"
"""The name of the schedules that call the standby, in the configuration; that of the digests is never paused."""
_REFUSED = 2


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What the standby that is deployed would lose.

    Attributes:
        image: The image of the function that would be removed; None: it stays, or there is none.
        has_image: Whether the variable `image` is set.
        pauses: Whether schedules that are on would be off, or `paused` is true when the standby is deployed again.
    """

    image: str | None
    has_image: bool
    pauses: bool

    @classmethod
    def of(cls, planned: Mapping[str, Any]) -> "Losses":
        """Those of a plan, as `terraform show -json` prints it."""
        changes = planned.get("resource_changes", [])
        # With its changes, a plan lists what stays as it is.
        before, after = list(_values(changes, SCHEDULE, "before")), list(_values(changes, SCHEDULE, "after"))
        was_on = any(values["state"] == "ACTIVE" for values in before)
        gone = (
            list(_values(changes, FUNCTION, "before")) if not any(_values(changes, FUNCTION, "after")) else []
        )
        variables = {name: given.get("value") for name, given in planned.get("variables", {}).items()}
        return cls(
            image=gone[0]["image"] if gone else None,
            has_image=bool(variables.get("image")),
            pauses=was_on
            and (
                variables.get("paused", True) is not False
                if gone
                else not any(values["state"] == "ACTIVE" for values in after)
            ),
        )

    def refusal(self, plan: str, *, may_remove: bool, may_pause: bool) -> str | None:
        """Why the deployment must not go on, with the next command; None if it may.

        Args:
            plan: The plan file, as it was named.
            may_remove: The word for removing the standby was given.
            may_pause: The word for pausing it was given.
        """
        removes = self.image is not None and not may_remove
        if not removes and (self.image is not None or not self.pauses or may_pause):
            return None
        given: dict[str, str] = {}
        if removes and self.has_image:
            why = (
                "This would remove the standby, since the plan has no runners.oci. Put it back into the plan."
            )
        elif removes:
            why = "This would remove the standby: the variable `image` is not set here. With the image that runs:"
            given["TF_VAR_image"] = shlex.quote(self.image or "")
        else:
            why = "This would switch off the standby's schedules: `paused` is true here, the default. To leave them on:"
        if self.pauses and not may_pause:
            given["TF_VAR_paused"] = "false"
        command = shlex.join(["make", "deploy-oci", *([] if plan == "lockstep.yaml" else [f"PLAN={plan}"])])
        again = (
            [" ".join([" ", *(f"{name}={value}" for name, value in given.items()), command])] if given else []
        )
        word, done = ("REMOVE_STANDBY", "remove") if removes else ("PAUSE_STANDBY", "pause")
        return "\n".join([why, *again, f"To {done} it: {command} {word}=1. Nothing was changed."])


def main(argv: Sequence[str] | None = None) -> int:
    """Make a plan and look at it; the exit code: 2 if the deployment must not go on, else Terraform's."""
    parser = argparse.ArgumentParser(prog="python -m cdk.standby", description=__doc__.partition("\n")[0])
    parser.add_argument("--terraform", default="terraform", help="the program")
    parser.add_argument("--plan", default="lockstep.yaml", help="Lockstep's plan")
    parser.add_argument("--remove", action="store_true", help="the standby may be removed")
    parser.add_argument("--pause", action="store_true", help="the schedules may be switched off")
    parser.add_argument("options", nargs="*", help="options of `terraform plan`, after --")
    asked = parser.parse_args(argv)
    print("looking at what Terraform plans for the standby", file=sys.stderr, flush=True)  # noqa: T201 - likewise
    with TemporaryDirectory() as folder:
        # Private, since it holds the state.
        saved = str(Path(folder) / "planned")
        options = [f"-var=plan_file={Path(asked.plan).resolve()}", *asked.options, f"-out={saved}"]
        planned = _terraform(asked.terraform, "plan", "-input=false", *options)
        if planned.returncode:
            return planned.returncode
        shown = _terraform(asked.terraform, "show", "-json", saved)
        if shown.returncode:
            return shown.returncode
    told = Losses.of(json.loads(shown.stdout)).refusal(
        asked.plan, may_remove=asked.remove, may_pause=asked.pause
    )
    if told:
        print(told, file=sys.stderr)  # noqa: T201 - a command line
        return _REFUSED
    return 0


def _values(changes: Sequence[Mapping[str, Any]], kind: str, when: str) -> Iterator[Mapping[str, Any]]:
    for resource in changes:
        if kind == SCHEDULE and resource["name"] != STANDBY:
            continue
        if resource["type"] == kind and (values := resource["change"][when]):
            yield values


def _terraform(program: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run it; what it complains of is shown."""
    return subprocess.run(  # noqa: S603 - Terraform, as the person named it
        [program, f"-chdir={CONFIGURATION}", *words], check=False, stdout=subprocess.PIPE, text=True
    )


if __name__ == "__main__":
    sys.exit(main())
