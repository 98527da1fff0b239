"""What happens in the demo: each act is a rotation that takes a different course, or one that an order asks for."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockstep.protocol.model import Credential, Login, SecretStr
from lockstep.protocol.orders import Revoke
from sandbox.applications import CACHE_SECONDS
from sandbox.emulators.aws import InvocationContext, ProcessDied
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from sandbox.outside import Value, lets_in
from sandbox.servers import set_password
from sandbox.story import CLOUDS, End, Run, Story, short

if TYPE_CHECKING:
    from sandbox.emulators.oci import Fault

OVERLAP_PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.5
ROTATED, FINISHED = End(), End(adopted=True)


@dataclass(frozen=True)
class Stage:
    """Where it happens.

    Attributes:
        function: The OCI function.
    """

    story: Story
    estate: Estate
    function: FunctionProcess


@dataclass(frozen=True)
class Act:
    """An act, played once for each credential.

    Attributes:
        about: One sentence: what is about to happen, and why it matters.
    """

    title: str
    about: str
    play: Callable[[Stage, Credential], None]


def play(stage: Stage, acts: tuple[Act, ...]) -> None:
    """Play acts, each for every credential. The first run activates the plan."""
    for act in acts:
        stage.story.begin(act.title, act.about)
        for credential in stage.estate.plan.credentials:
            act.play(stage, credential)


def _aws_rotates(stage: Stage, credential: Credential) -> None:
    stage.story.add(_by_aws(stage, credential), ROTATED)


def _oci_rotates(stage: Stage, credential: Credential) -> None:
    stage.story.add(_by_oci(stage, credential), ROTATED)


def _aws_begins_oci_finishes(stage: Stage, credential: Credential) -> None:
    """AWS dies between apply and commit: the databases accept the new value, no store serves it."""
    with before_step(stage.estate, "update_secrets", _die):
        run = _by_aws(stage, credential)
    stage.story.add(run, End(outcome="Lambda.Unknown", cause="the demo killed its function at every try"))
    stage.story.add(_by_oci(stage, credential), FINISHED)


def _oci_is_down_and_recovers(stage: Stage, credential: Credential) -> None:
    """OCI Vault goes down as the commit begins: AWS serves the new value, OCI the one before, and both log in."""
    outages: list[Fault] = []

    def begin_outage() -> None:
        if not outages:
            outages.extend(stage.estate.oci.faults.outage(service) for service in ("vault", "secrets"))

    stage.story.note(
        f"{short(credential.id)}: waiting while AWS asks OCI Vault again and again, for 15 to 30 seconds"
    )
    with before_step(stage.estate, "update_secrets", begin_outage):
        run = _by_aws(stage, credential)
    stage.story.add(run, End(outcome="StoreUnreachableError", cause="the demo switched OCI Vault off"))
    for outage in outages:
        outage.lift()
    stage.story.note(f"{short(credential.id)}: the demo has switched OCI Vault on again")
    # A store serves the value already, and it works everywhere: it is finished under its own generation.
    stage.story.add(_by_aws(stage, credential), FINISHED)
    # An application that cannot read its only store for longer than the overlap holds a revoked value. So every
    # application reads once more before the next outage begins.
    stage.story.note(
        f"waiting {2 * CACHE_SECONDS:.0f} seconds until every application has read OCI Vault again"
    )
    time.sleep(2 * CACHE_SECONDS)


def _a_database_is_restored(stage: Stage, credential: Credential) -> None:
    """A database refuses what the stores serve; the value before still works there, so the account is ours."""
    story, estate, database = stage.story, stage.estate, credential.databases[-1]
    login = _served(estate, credential)
    backup = SecretStr(f"{secrets.token_urlsafe(24)}-aA1")
    set_password(estate.servers[database], Login(login.username, backup))
    story.note(f"{short(credential.id)}: {database} refuses what both clouds serve")
    story.add(_by_aws(stage, credential), ROTATED)
    story.expect_none(credential.id, "locked out", estate.locked_out(credential))


def _a_password_has_leaked(stage: Stage, credential: Credential) -> None:
    """An emergency order: the next run of either cloud ends every value but its own."""
    story, estate = stage.story, stage.estate
    leaked = _served(estate, credential)
    estate.order(credential, Revoke(lift_pause=False))
    story.add(_by_oci(stage, credential), ROTATED)
    value = Value(leaked.username, leaked.password.reveal())
    accepting = [s.name for s in credential.servers if lets_in(s, value)]
    story.expect_none(credential.id, "the leaked password is still accepted", accepting)
    story.expect_none(credential.id, "locked out", estate.locked_out(credential))


WITH_APPLICATIONS = (
    Act(
        "AWS rotates",
        "The first run in AWS proves by real logins that the password in use works everywhere, and makes both clouds "
        "serve it as generation 1, because nothing may change before what exists is known to work.",
        _aws_rotates,
    ),
    Act(
        "OCI rotates",
        "The standby in OCI makes a new password, generation 2, by the same four steps, because rotation must go on "
        "where the runner in AWS does not.",
        _oci_rotates,
    ),
    Act(
        "AWS dies half-way, and OCI finishes",
        "The demo kills AWS's function on purpose, after the databases accept the new password and before a store "
        "serves it, because a crash at the worst moment must neither lock anyone out nor lose the password.",
        _aws_begins_oci_finishes,
    ),
    Act(
        "OCI Vault goes down",
        "The demo switches OCI Vault off on purpose in the middle of a promotion, so that the clouds serve different "
        "passwords, because both must log in until the next run brings the clouds back in sync.",
        _oci_is_down_and_recovers,
    ),
    Act(
        "AWS rotates again",
        "AWS makes one more new password as on any other day, because nothing of the crash and the outage may stay "
        "behind.",
        _aws_rotates,
    ),
)

# They lock applications out, because of what others did or on purpose.
WITHOUT_APPLICATIONS = (
    Act(
        "A database is restored from a backup",
        "The applications have stopped, and the demo gives a database another password on purpose, because the next "
        "run must repair by itself what it can: the value before still works there, and shows whose the account is.",
        _a_database_is_restored,
    ),
    Act(
        "A password has leaked",
        "An operator orders an emergency, and the next run ends every older password at once without the usual "
        "overlap, because whoever has the leaked one must be shut out now.",
        _a_password_has_leaked,
    ),
)


def _served(estate: Estate, credential: Credential) -> Login:
    login = estate.stored_login(credential)
    if login is None:
        raise TypeError("a credential that was rotated has a login")
    return login


def _die() -> None:
    raise ProcessDied


@contextmanager
def before_step(estate: Estate, function: str, act: Callable[[], object]) -> Iterator[None]:
    """Until the end of the block something is done before each call of a function in AWS."""

    def hook(call: InvocationContext, _event: object) -> None:
        if call.function_name == function:
            act()

    host = estate.aws.lambda_host
    host.before_call = hook
    try:
        yield
    finally:
        host.before_call = None


def _by_aws(stage: Stage, credential: Credential) -> Run:
    def once() -> Run:
        execution = stage.estate.rotate(credential.id, force=True, trigger="demo", timeout_seconds=120)
        output = execution.output or {"outcome": execution.error}
        return _run(credential, "aws", output, execution.milliseconds)

    return _when_the_overlap_is_over(stage.story, credential, "aws", once)


def _by_oci(stage: Stage, credential: Credential) -> Run:
    def once() -> Run:
        began = time.monotonic()
        answer = stage.function.call({"credential_id": credential.id, "force": True, "trigger": "demo"})
        milliseconds = round((time.monotonic() - began) * 1000)
        [result] = answer.body.get("results", [answer.body])
        return _run(credential, "oci", result, milliseconds)

    if not any(run.runner == "oci" for run in stage.story.runs):
        stage.story.note(
            "waiting for the function's first call, which also loads its libraries: a cold start"
        )
    return _when_the_overlap_is_over(stage.story, credential, "oci", once)


def _run(credential: Credential, runner: str, result: Mapping[str, Any], milliseconds: int) -> Run:
    return Run(
        credential_id=credential.id,
        runner=runner,
        outcome=str(result.get("error", result.get("outcome"))),
        generation=result.get("generation"),
        adopted=result.get("adopted", False),
        milliseconds=milliseconds,
    )


def _when_the_overlap_is_over(
    story: Story, credential: Credential, runner: str, once: Callable[[], Run]
) -> Run:
    """Force a rotation as soon as the overlap is over; until then both runners skip."""
    runs = f"{CLOUDS[runner]} runs for {short(credential.id)}"
    story.now = runs
    deadline = time.monotonic() + OVERLAP_PATIENCE_SECONDS
    run = once()
    if run.outcome == "skipped":
        story.note(
            f"{short(credential.id)}: waiting until the overlap is over, while the password before this one still works"
        )
    while run.outcome == "skipped" and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        run = once()
    return run
