"""What happens in the demo: each act is a rotation that takes a different course, or one that an order asks for."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lockstep.model import Credential, Login, SecretStr
from lockstep.orders import Enrol, Revoke
from sandbox.applications import CACHE_SECONDS
from sandbox.aws import Execution, InvocationContext, ProcessDied
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from sandbox.outside import Value, lets_in
from sandbox.servers import set_password
from sandbox.timeline import duration_ms, spans

if TYPE_CHECKING:
    from sandbox.oci import Fault

OVERLAP_PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a runner, as the demo shows it."""

    act: str
    credential_id: str
    runner: str
    outcome: str
    generation: int | None = None
    adopted: bool = False
    milliseconds: int = 0
    states_ms: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Story:
    """What has happened so far, and what went wrong.

    Attributes:
        function: The OCI function.
        say: Told a line about each run.
        act: What is going on now.
    """

    function: FunctionProcess
    say: Callable[[str], None]
    act: str = ""
    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, run: Run, *, expected: str, adopted: bool = False) -> None:
        """Note a run, and a problem if it did not end as expected."""
        self.runs.append(run)
        self.say(
            f"{run.act}: {run.credential_id} by {run.runner}: {run.outcome} {run.generation or ''} "
            f"{'(adopted) ' if run.adopted else ''}in {run.milliseconds} ms"
        )
        if (run.outcome, run.adopted) != (expected, adopted):
            self.problems.append(f"{run.act}: {run.credential_id}: {run.outcome} instead of {expected}")


def play(story: Story, estate: Estate) -> None:
    """The acts during which applications log in, for every credential. The first run activates the plan."""
    for act in (_aws_rotates, _oci_rotates, _aws_begins_oci_finishes, _oci_is_down_and_heals, _aws_rotates):
        for credential in estate.plan.credentials:
            act(story, estate, credential)


def _aws_rotates(story: Story, estate: Estate, credential: Credential) -> None:
    story.act = "AWS rotates"
    story.add(_by_aws(story, estate, credential), expected="rotated")


def _oci_rotates(story: Story, _estate: Estate, credential: Credential) -> None:
    story.act = "OCI rotates"
    story.add(_by_oci(story, credential), expected="rotated")


def _aws_begins_oci_finishes(story: Story, estate: Estate, credential: Credential) -> None:
    """AWS dies between apply and commit: the databases accept the new value, no store serves it."""
    story.act = "AWS dies before commit"
    with _before(estate, "update_secrets", _die):
        story.add(_by_aws(story, estate, credential), expected="Lambda.Unknown")
    story.act = "OCI finishes it"
    story.add(_by_oci(story, credential), expected="rotated", adopted=True)


def _oci_is_down_and_heals(story: Story, estate: Estate, credential: Credential) -> None:
    """OCI Vault goes down as the commit begins: AWS serves the new value, OCI the one before, and both log in."""
    story.act = "OCI Vault down at commit"
    outages: list[Fault] = []

    def begin_outage() -> None:
        if not outages:
            outages.extend(estate.oci.faults.outage(service) for service in ("vault", "secrets"))

    with _before(estate, "update_secrets", begin_outage):
        story.add(_by_aws(story, estate, credential), expected="StoreUnreachableError")
    for outage in outages:
        outage.lift()
    story.act = "OCI Vault is back"
    # A store serves the value already, so it is not adopted: it gets a new generation in both stores.
    story.add(_by_aws(story, estate, credential), expected="rotated")
    # An application that cannot read its only store for longer than the overlap holds a dead value. So every
    # application reads once more before the next outage begins.
    time.sleep(2 * CACHE_SECONDS)


def recover(story: Story, estate: Estate) -> None:
    """The acts that lock applications out, because of what others did or on purpose: they have stopped by now."""
    for act in (_a_database_is_restored, _a_password_has_leaked):
        for credential in estate.plan.credentials:
            act(story, estate, credential)


def _a_database_is_restored(story: Story, estate: Estate, credential: Credential) -> None:
    """A database refuses what the stores serve, and no run goes on until an operator says how."""
    database = credential.databases[-1]
    login = _served(estate, credential)
    backup = SecretStr(f"{secrets.token_urlsafe(24)}-aA1")
    set_password(estate.servers[database], Login(login.username, backup))
    story.act = "A database is restored"
    story.add(_by_aws(story, estate, credential), expected="CurrentCredentialRejectedError")
    story.act = "It is muted"
    story.add(_by_oci(story, credential), expected="DatabaseMutedError")
    story.act = "It is enrolled"
    estate.order(credential, Enrol(databases=frozenset({database})))
    story.add(_by_aws(story, estate, credential), expected="rotated", adopted=True)
    _expect_none(story, credential, "locked out", estate.locked_out(credential))


def _a_password_has_leaked(story: Story, estate: Estate, credential: Credential) -> None:
    """An emergency order: the next run of either cloud ends every value but its own."""
    leaked = _served(estate, credential)
    estate.order(credential, Revoke(lift_pause=False))
    story.act = "A password has leaked"
    story.add(_by_oci(story, credential), expected="rotated")
    value = Value(leaked.username, leaked.password.reveal())
    accepting = [s.name for s in credential.servers if lets_in(s, value)]
    _expect_none(story, credential, "still accepted", accepting)
    _expect_none(story, credential, "locked out", estate.locked_out(credential))


def _served(estate: Estate, credential: Credential) -> Login:
    login = estate.stored_login(credential)
    if login is None:
        raise TypeError("a credential that was rotated has a login")
    return login


def _expect_none(story: Story, credential: Credential, what: str, found: list[str]) -> None:
    if found:
        story.problems.append(f"{story.act}: {credential.id}: {what}: {', '.join(found)}")


def _die() -> None:
    raise ProcessDied


@contextmanager
def _before(estate: Estate, function: str, act: Callable[[], None]) -> Iterator[None]:
    def hook(call: InvocationContext, _event: object) -> None:
        if call.function_name == function:
            act()

    host = estate.aws.lambda_host
    host.before_call = hook
    try:
        yield
    finally:
        host.before_call = None


def _by_aws(story: Story, estate: Estate, credential: Credential) -> Run:
    def once() -> Run:
        execution = estate.rotate(credential.id, force=True, trigger="demo", timeout_seconds=120)
        output = execution.output or {"outcome": execution.error}
        return Run(
            act=story.act,
            credential_id=credential.id,
            runner="aws",
            outcome=str(output["outcome"]),
            generation=output.get("generation"),
            adopted=output.get("adopted", False),
            milliseconds=duration_ms(execution),
            states_ms=_states_ms(execution),
        )

    return _when_the_overlap_is_over(once)


def _by_oci(story: Story, credential: Credential) -> Run:
    def once() -> Run:
        began = time.monotonic()
        answer = story.function.call({"credential_id": credential.id, "force": True, "trigger": "demo"})
        [result] = answer.body.get("results", [answer.body])
        return Run(
            act=story.act,
            credential_id=credential.id,
            runner="oci",
            outcome=str(result.get("error", result.get("outcome"))),
            generation=result.get("generation"),
            adopted=result.get("adopted", False),
            milliseconds=round((time.monotonic() - began) * 1000),
        )

    return _when_the_overlap_is_over(once)


def _when_the_overlap_is_over(once: Callable[[], Run]) -> Run:
    """Force a rotation as soon as the overlap is over; until then both runners skip."""
    deadline = time.monotonic() + OVERLAP_PATIENCE_SECONDS
    while (run := once()).outcome == "skipped" and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return run


def _states_ms(execution: Execution) -> dict[str, int]:
    return {s.state: s.end_ms - s.begin_ms for s in spans(execution)}
