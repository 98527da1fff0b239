"""`lockstep doctor --in-cloud`: the deployed functions of both clouds look from where they run.

Each is invoked once, by an alias or as a function that can start nothing (ADR 82), and answers
with its findings. Networks and roles there are what rotations depend on.

The functions in AWS are asked side by side: only one of them shows logins to databases. The function in OCI shows them
too, so it is asked afterwards, and what has refused a login before is named to it.
"""

from collections.abc import Iterator
from functools import partial

from lockstep.databases.findings import Finding, failed, not_asked, passed
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Context, at, unanswered
from lockstep.operate.doctor.inside import Reply
from lockstep.operate.doctor.oci import functions_of, vault_of
from lockstep.operate.doctor.servers import ASK_DATABASES
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.messages import DoctorRequest
from lockstep.protocol.names import DOCTOR, function_names
from lockstep.protocol.strict_json import MessageError, parse, read, write
from lockstep.protocol.workers import SideBySide

GROUP = "inside"
GROUPS = frozenset({GROUP, "database"})
"""Whose checks functions answer."""
FUNCTION, PLAN = "inside.function", "inside.plan"
STEPS = ("generate", "apply_db", "update_secrets", "audit", "watch")
OCI_FUNCTION = "oci/rotate"

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
    answered = list(side_by_side([partial(_in_aws, context, step, silent) for step in STEPS]))
    if context.plan.runners.oci:
        refused = silent.union(*(names for _, names in answered))
        answered.append(_in_oci(context, refused))
    return [finding for findings, _ in answered for finding in findings]


def _in_aws(context: Context, step: str, silent: frozenset[str]) -> Answered:
    from lockstep.aws.reads import call  # noqa: PLC0415 - only where functions are asked

    names, where = function_names(context.stack, step), f"aws/{step}"
    try:
        called = call(context.plan.lock.region, names, _request(silent))
    except LockstepError as error:
        return _only(where, unanswered(FUNCTION, names[0], error))
    if called is None:
        says = f"no function of the stack {context.stack} in {context.plan.lock.region} has an alias {DOCTOR}"
        fix = f"{_DEPLOY['aws']}, or name the stack: --stack"
        return _only(where, not_asked(FUNCTION, names[0], says, fix))
    if called.has_failed:
        found, _ = _only(where, _broken(context, called.name, called.error, where))
        return found, _perhaps_refused(context, where)
    return answer_of(context, where, called.name, called.payload)


def _in_oci(context: Context, silent: frozenset[str]) -> Answered:
    from lockstep.oci.functions import call  # noqa: PLC0415 - the extra may be missing

    name, vault = f"{context.name}/{DOCTOR}", vault_of(context.plan)
    try:
        found = functions_of(context, DOCTOR)
        if not found:
            says = f"there is no function {name} in {vault.compartment_of_own_secrets}"
            fix = f"{_DEPLOY['oci']}; or name it: --oci-name"
            return _only(OCI_FUNCTION, not_asked(FUNCTION, "", says, fix))
        payload = call(context.clouds.oci(vault.region), found[0], _request(silent))
    except LockstepError as error:
        return _only(OCI_FUNCTION, unanswered(FUNCTION, name, error))
    return answer_of(context, OCI_FUNCTION, name, payload)


def _request(silent: frozenset[str]) -> dict[str, object]:
    return write(DoctorRequest(doctor="look", silent=tuple(sorted(silent))))


def _perhaps_refused(context: Context, where: str) -> frozenset[str]:
    """The databases of which it is not known whether they have refused a login of a place that gave no answer."""
    return every_database(context.plan) if where in ASK_DATABASES else frozenset()


def every_database(plan: Plan) -> frozenset[str]:
    """The names of all databases: with these as `silent` no login is shown at all."""
    return frozenset(server.name for c in plan.compiled.credentials for server in c.servers)


def _broken(context: Context, name: str, error: str, where: str) -> Finding:
    told = error if error.isidentifier() else "it did not answer in time, or crashed"
    fix = "look at its log in OCI Logging: docs/alarms.md"
    if where.startswith("aws/"):
        group = f"/aws/lambda/{name.removesuffix('-zip')}"
        fix = formatting.aws(context.plan.lock.region, "logs tail", group)
    return failed(FUNCTION, name, f"it has failed: {told}", fix)


def answer_of(context: Context, where: str, name: str, payload: bytes) -> Answered:
    """What the answer of a function says.

    Args:
        context: The plan.
        where: The function, as findings name it.
        name: The function, as its cloud does.
        payload: The answer.
    """
    cloud = where.partition("/")[0]
    try:
        document = parse(payload)
        if isinstance(document, dict) and "error" in document:
            return _only(where, _broken(context, name, str(document["error"]), where))
        reply: Reply = read(Reply, document)
    except MessageError:
        says = "this command does not know its answer: the builds differ"
        found, _ = _only(where, failed(FUNCTION, name, says, _DEPLOY[cloud]))
        return found, _perhaps_refused(context, where)
    own = [
        passed(FUNCTION, name, "it has answered"),
        *_plans(context.plan, reply, name, cloud),
    ]
    return [*at(where, own), *reply.findings], frozenset(reply.refused)


def _plans(plan: Plan, reply: Reply, name: str, cloud: str) -> Iterator[Finding]:
    fix = f"{_DEPLOY_PLAN[cloud]}  # with this plan; what changes: lockstep plan diff OLD NEW"
    here = {c.id: c.plan_digest for c in plan.compiled.credentials}
    for credential_id in sorted(here.keys() | reply.plans.keys()):
        there = reply.plans.get(credential_id)
        if credential_id not in here:
            yield failed(PLAN, credential_id, f"{name} has it, and the plan here has not", fix)
        elif there is None:
            yield failed(PLAN, credential_id, f"{name} does not have it yet", fix)
        elif there != here[credential_id]:
            yield failed(PLAN, credential_id, f"{name} was deployed with another plan of it", fix)
        else:
            yield passed(PLAN, credential_id, f"{name} has the plan that is here")


def _only(where: str, finding: Finding) -> Answered:
    return at(where, [finding]), frozenset()
