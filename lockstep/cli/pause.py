"""`lockstep pause` and `lockstep resume`: switch the scheduled runs of both clouds off and on."""

from lockstep.cli.giving import (
    AllCredentials,
    CredentialArguments,
    RecordIn,
    desk,
    each,
    entry_text,
    named,
    would,
)
from lockstep.cli.output import DEFAULT_PLAN, DryRun, PlanFile, plan_or_exit, say
from lockstep.cli.times import clock_time
from lockstep.model import Credential
from lockstep.orders import Pause, Resume


def pause(
    credentials: CredentialArguments = None,
    *,
    everything: AllCredentials = False,
    dry_run: DryRun = False,
    stream: RecordIn = "aws",
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """Switch scheduled rotations off, in both clouds.

    Nothing expires: every password stays as it is, and what is alive stays alive. A run that is under way goes on to
    its end. `lockstep rotate --force` still rotates.

    Exit code: 0 paused, 3 the lock table or the audit log was unreachable.
    """
    _switch(Pause(), credentials, everything=everything, dry_run=dry_run, stream=stream, file=file)


def resume(
    credentials: CredentialArguments = None,
    *,
    everything: AllCredentials = False,
    dry_run: DryRun = False,
    stream: RecordIn = "aws",
    file: PlanFile = DEFAULT_PLAN,
) -> None:
    """Switch scheduled rotations on again.

    What is due rotates with the next trigger of either cloud.

    Exit code: 0 resumed, 3 the lock table or the audit log was unreachable.
    """
    _switch(Resume(), credentials, everything=everything, dry_run=dry_run, stream=stream, file=file)


def _switch(
    order: Pause | Resume,
    credentials: CredentialArguments,
    *,
    everything: bool,
    dry_run: bool,
    stream: RecordIn,
    file: PlanFile,
) -> None:
    plan = plan_or_exit(file)
    found, at = named(plan, credentials, everything=everything), desk(plan, stream)

    def act(credential: Credential) -> None:
        if dry_run:
            would(credential, order, at.read(credential))
            return
        given = at.give(order, credential)
        record = given.record
        word = "paused" if record.paused else "resumed"
        say(f"{credential.id}: {word} ({entry_text(given.entry, stream)})", style="green")
        if record.paused and record.holder and record.expires_at:
            until = clock_time(record.expires_at, at.clouds.clock.now())
            say(f"  {record.holder} may still be running, until {until} at the latest")

    each(found, act)
