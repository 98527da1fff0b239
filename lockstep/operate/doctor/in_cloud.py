"""`lockstep doctor --in-cloud`: the deployed functions of both clouds look from where they run.

Each is invoked once, by an alias or as a function that can start nothing (ADR 82), and answers
with its findings. Networks, roles and clocks there are what rotations depend on.

The functions in AWS are asked side by side: only one of them shows logins to databases. The function in OCI shows them
too, so it is asked afterwards, and what has refused a login before is named to it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from lockstep.databases.findings import Answer, Finding, failed, found_by, not_asked, passed, warning
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Check, Context, unanswered
from lockstep.operate.doctor.inside import Reply
from lockstep.operate.doctor.network import ASK_DATABASES
from lockstep.operate.doctor.oci import functions_of, vault_of
from lockstep.plan.model import Plan
from lockstep.protocol.deadlines import CLOCK_SKEW
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.messages import DoctorRequest
from lockstep.protocol.names import DOCTOR, function_names
from lockstep.protocol.strict_json import MessageError, parse, read, write
from lockstep.protocol.workers import SideBySide

GROUP = "inside"
GROUPS = frozenset({GROUP, "database"})
"""Whose checks functions answer."""
FUNCTION, PLAN, CLOCK = "inside.function", "inside.plan", "inside.clock"
STEPS = ("generate", "apply_db", "update_secrets", "audit", "watch")
OCI_FUNCTION = "oci/rotate"
SMALL_SKEW_SECONDS = 5.0
"""What a clock may be off by, beyond what the call took."""

_OLDER = "InvalidRequestError"
"""What a function says that was built before it could be asked."""
_LOG_SPAN, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
_DEPLOY = {"aws": formatting.DEPLOY_AWS, "oci": formatting.DEPLOY_IMAGE_OCI}
_DEPLOY_PLAN = {"aws": formatting.DEPLOY_AWS, "oci": formatting.DEPLOY_PLAN_OCI}

Answered = tuple[list[Finding], frozenset[str]]
"""Findings of a place, and the databases that have refused a login there, or may have."""


def ask_functions(context: Context, silent: frozenset[str], *, side_by_side: SideBySide) -> list[Finding]:
    """What the functions of both clouds find.

    Args:
        context: The plan, its names, and who asks.
        silent: The names of databases that have refused a login here.
        side_by_side: Runs the calls.
    """
    asks = [partial(_in_aws, context, step, silent) for step in STEPS]
    answered = list(side_by_side(asks))
    if context.plan.runners.oci:
        refused = silent.union(*(names for _, names in answered))
        answered.append(_in_oci(context, refused))
    return [finding for findings, _ in answered for finding in findings]


def _in_aws(context: Context, step: str, silent: frozenset[str]) -> Answered:
    from lockstep.aws.reads import call  # noqa: PLC0415 - only where functions are asked

    names, where = function_names(context.stack, step), f"aws/{step}"
    began = context.clock.now()
    try:
        called = call(context.plan.lock.region, names, _request(silent))
    except LockstepError as error:
        return _only(FUNCTION, where, unanswered(names[0], error))
    if called is None:
        missing = f"there is no alias {DOCTOR} of {' or '.join(names)} in {context.plan.lock.region}"
        fix = f"{_DEPLOY['aws']}, or name the stack: --stack"
        return _only(FUNCTION, where, failed(names[0], missing, fix))
    if called.has_failed:
        broken = _only(FUNCTION, where, _broken(context, called.name, called.error, where))
        return broken if called.error == _OLDER else (broken[0], _perhaps_refused(context, where))
    return _read(context, where, called.name, called.payload, began)


def _in_oci(context: Context, silent: frozenset[str]) -> Answered:
    from lockstep.oci.functions import call  # noqa: PLC0415 - the extra may be missing

    name = f"{context.name}/{DOCTOR}"
    try:
        found = functions_of(context, DOCTOR)
        if not found:
            missing = f"there is no function {name} in {vault_of(context.plan).compartment_of_own_secrets}"
            fix = f"{_DEPLOY['oci']}; or name it: --oci-name"
            return _only(FUNCTION, OCI_FUNCTION, failed(name, missing, fix))
        began = context.clock.now()
        payload = call(context.clouds.oci(vault_of(context.plan).region), found[0], _request(silent))
    except LockstepError as error:
        return _only(FUNCTION, OCI_FUNCTION, unanswered(name, error))
    return _read(context, OCI_FUNCTION, name, payload, began)


def _request(silent: frozenset[str]) -> dict[str, Any]:
    return write(DoctorRequest(doctor="look", silent=tuple(sorted(silent))))


def _perhaps_refused(context: Context, where: str) -> frozenset[str]:
    """The databases of which it is not known whether they have refused a login of a place that gave no answer."""
    return every_database(context.plan) if where in ASK_DATABASES else frozenset()


def every_database(plan: Plan) -> frozenset[str]:
    """The names of all databases: with these as `silent` no login is shown at all."""
    return frozenset(server.name for c in plan.compiled.credentials for server in c.servers)


def _broken(context: Context, name: str, error: str, where: str) -> Answer:
    cloud = where.partition("/")[0]
    if error == _OLDER:
        return failed(name, "its build is older than this command, and cannot be asked", _DEPLOY[cloud])
    told = error if error.isidentifier() else "it did not answer in time, or crashed"
    return failed(name, f"it has failed: {told}", _log_of(context, name, cloud))


def _log_of(context: Context, name: str, cloud: str) -> str:
    """The command that shows the log of a function."""
    if cloud == "aws":
        group = f"/aws/lambda/{name.removesuffix('-zip')}"
        return formatting.aws(context.plan.lock.region, "logs tail", group)
    store, now = vault_of(context.plan), context.clock.now()
    return formatting.oci(
        store.region,
        "logging-search search-logs",
        *("--search-query", f'search "{store.compartment_of_own_secrets}" | sort by datetime desc'),
        *("--time-start", f"{now - _LOG_SPAN:{_RFC_3339}}", "--time-end", f"{now + _MINUTE:{_RFC_3339}}"),
    )


def _read(context: Context, where: str, name: str, payload: bytes, began: datetime) -> Answered:
    cloud = where.partition("/")[0]
    try:
        document = parse(payload)
        if isinstance(document, dict) and "error" in document:
            return _only(FUNCTION, where, _broken(context, name, str(document["error"]), where))
        reply: Reply = read(Reply, document)
    except MessageError:
        unread = failed(name, "its answer is none that this command knows: the builds differ", _DEPLOY[cloud])
        return [found_by(FUNCTION, where, unread)], _perhaps_refused(context, where)
    ended = context.clock.now()
    seconds = (ended - began).total_seconds()
    own = [
        found_by(FUNCTION, where, passed(name, f"answered in {seconds:.1f} s")),
        *(found_by(PLAN, where, a) for a in _plans(context.plan, reply, name, cloud)),
        found_by(CLOCK, where, _clock(name, reply.at, began, ended)),
    ]
    return [*own, *reply.findings], frozenset(reply.refused)


def _plans(plan: Plan, reply: Reply, name: str, cloud: str) -> Iterator[Answer]:
    fix = f"{_DEPLOY_PLAN[cloud]}  # with this plan; what changes: lockstep plan diff OLD NEW"
    here = {c.id: c.plan_digest for c in plan.compiled.credentials}
    for credential_id in sorted(here.keys() | reply.plans.keys()):
        there = reply.plans.get(credential_id)
        if credential_id not in here:
            yield failed(credential_id, f"{name} has it, and the plan here has not", fix)
        elif there is None:
            yield failed(credential_id, f"{name} does not have it yet", fix)
        elif there != here[credential_id]:
            yield failed(credential_id, f"{name} was deployed with another plan of it", fix)
        else:
            yield passed(credential_id, f"{name} has the plan that is here")


def _clock(name: str, at: datetime, began: datetime, ended: datetime) -> Answer:
    """Its time lies between the call and its answer, unless a clock is off."""
    skew = max((began - at).total_seconds(), (at - ended).total_seconds(), 0.0)
    if skew > CLOCK_SKEW.total_seconds():
        return failed(
            name, f"its clock and the one here differ by {skew:.0f} s, which runs do not allow", "date -u"
        )
    if skew > SMALL_SKEW_SECONDS:
        return warning(name, f"its clock and the one here differ by {skew:.0f} s", "date -u")
    return passed(name, f"its clock and the one here differ by less than {SMALL_SKEW_SECONDS:.0f} s")


def _only(check: str, where: str, answer: Answer) -> Answered:
    return [found_by(check, where, answer)], frozenset()


def _asked_inside(_context: Context) -> Sequence[Answer]:
    """Nothing here: the function gives the answer."""
    return [not_asked("the functions", "they are asked with --in-cloud", "lockstep doctor --in-cloud")]


def _check(check: str, *, title: str, looks_at: str, means: str, command: str) -> Check:
    return Check(id=check, title=title, looks_at=looks_at, means=means, command=command, ask=_asked_inside)


CHECKS = (
    _check(
        FUNCTION,
        title="functions",
        looks_at="whether each function of both clouds is deployed, may be invoked, and answers",
        means="the runs of that cloud fail, or this identity may not invoke it (docs/iam.md)",
        command=f"{formatting.DEPLOY_AWS}; {formatting.DEPLOY_IMAGE_OCI}",
    ),
    _check(
        PLAN,
        title="deployed plan",
        looks_at="the plan digest of each credential in each function against the plan here",
        means="a run under a plan that is not the active one changes nothing",
        command=f"lockstep plan diff OLD NEW; {formatting.DEPLOY_AWS}; {formatting.DEPLOY_PLAN_OCI}",
    ),
    _check(
        CLOCK,
        title="clock of a function",
        looks_at="each function's clock against the one here",
        means="leases and schedules are misjudged; 60 s are allowed for",
        command="date -u",
    ),
    _check(
        "inside.session",
        title="session in the other cloud",
        looks_at="with `federation`: whether each function gets a session in the other cloud, and a service there "
        "takes it: a finding for each fact that [identity.md](identity.md#what-an-account-must-confirm) names",
        means="the function does not reach the other cloud; the finding names the choice in the plan that may",
        command="lockstep doctor --skip inside  # then compare `runners` of the plan",
    ),
    _check(
        "inside.lock-record",
        title="lock record, inside",
        looks_at="whether generate, apply_db, audit and the OCI function may read the record of each credential",
        means="no run gets beyond that step",
        command="docs/iam.md, docs/iam-oci.md; deploy again",
    ),
    _check(
        "inside.stores",
        title="stores, inside",
        looks_at="whether generate, update_secrets and the OCI function may read both secrets in each store",
        means="no run gets beyond that step",
        command="lockstep secrets tag; docs/iam.md, docs/iam-oci.md",
    ),
    _check(
        "inside.audit-log",
        title="audit log, inside",
        looks_at="whether audit and the OCI function may read their log and the other one, and whether the key signs",
        means="a run is not recorded, and so does not end well",
        command="docs/iam.md, docs/iam-oci.md; deploy again",
    ),
    _check(
        "inside.lock-table",
        title="lock table, inside",
        looks_at="whether the watch may read the whole table",
        means="no alarm comes",
        command="make deploy-aws",
    ),
)
