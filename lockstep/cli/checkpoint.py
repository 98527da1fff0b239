"""`lockstep audit checkpoint`: verify, and sign up to where, so that the next verification need not read it again."""

from pathlib import Path
from typing import Annotated

import typer

from lockstep.audit.checkpoint import Bases, opened, sealed
from lockstep.audit.event import milliseconds
from lockstep.cli.output import no, wrong_use
from lockstep.clouds import Clouds
from lockstep.errors import AuditVerificationError
from lockstep.plan import Plan
from lockstep.ports import Signer

CheckpointFile = Annotated[
    Path | None,
    typer.Option("--checkpoint", help="Go on from this checkpoint, which `audit checkpoint` has made."),
]


def read_checkpoint(file: Path | None, plan: Plan, clouds: Clouds) -> Bases:
    """What a checkpoint file says; exit code 2 if it is none, 1 if the plan's key has not signed it."""
    if file is None:
        return {}
    try:
        return opened(file.read_bytes(), _signer(plan, clouds))
    except OSError as error:
        raise wrong_use(f"{file}: {error.strerror}") from None
    except AuditVerificationError as error:
        if error.where["code"] == "no-checkpoint":
            raise wrong_use(f"{file} is no checkpoint; make one with `lockstep audit checkpoint`") from None
        text = f"{file} was not signed by the plan's key, or was changed since: verify without it"
        raise no(text, name="CheckpointRefused") from None


def write_checkpoint(file: Path, reached: Bases, plan: Plan, clouds: Clouds) -> None:
    """Sign a checkpoint and write it."""
    at = milliseconds(clouds.clock.now())
    file.write_text(sealed(reached, _signer(plan, clouds), at=at), encoding="utf-8")


def _signer(plan: Plan, clouds: Clouds) -> Signer:
    return clouds.stream("aws", plan.credentials[0])[1]
