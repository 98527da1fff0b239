"""`lockstep doctor --in-cloud`: the deployed functions of both clouds look from where they run.

Each is invoked once, by an alias or as a function that can start nothing (ADR 82), and answers
with its findings. Networks and roles there are what rotations depend on.

The functions in AWS are asked side by side: only one of them shows logins to databases. The function in OCI shows them
too, so it is asked afterwards, and what has refused a login before is named to it.
"""

from collections.abc import Iterator
from functools import partial

from msgspec import structs

from lockstep.aws import reads as aws
from lockstep.databases.findings import Finding, failed, not_asked, passed
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Context
from lockstep.operate.doctor.clouds import functions_of, vault_of
from lockstep.operate.doctor.inside import Reply
from lockstep.operate.doctor.servers import ASK_DATABASES, unanswered
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.messages import DoctorRequest
from lockstep.protocol.names import DOCTOR, function_names
from lockstep.protocol.strict_json import MessageError, parse, read, write

GROUP = "inside"
GROUPS = frozenset({GROUP, "database"})
"""Whose checks functions answer."""
FUNCTION, PLAN = "inside.function", "inside.plan"
STEPS = ("generate", "apply_db", "update_secrets", "audit", "watch")

_DEPLOY = {"aws": formatting.DEPLOY_AWS, "oci": formatting.DEPLOY_IMAGE_OCI}
_DEPLOY_PLAN = {"aws": formatting.DEPLOY_AWS, "oci": formatting.DEPLOY_PLAN_OCI}

Answered = tuple[list[Finding], frozenset[str]]
"""Findings of a place, and the databases that have refused a login there, or may have."""


def ask_functions(context: Context, silent: frozenset[str]) -> list[Finding]:
    """What the functions of both clouds find.

    Args:
        context: The plan, its names, and who asks.
        silent: The names of databases that have refused a login here.
    """
    asks = [partial(_asked, context, f"aws/{step}", silent) for step in STEPS]
    answered = list(context.clouds.side_by_side(asks))
    if context.plan.runners.oci:
        refused = silent.union(*(names for _, names in answered))
        answered.append(_asked(context, "oci/rotate", refused))
    return [finding for findings, _ in answered for finding in findings]


def every_database(plan: Plan) -> frozenset[str]:
    """The names of all databases: with these as `silent` no login is shown at all."""
    return frozenset(server.name for c in plan.compiled.credentials for server in c.servers)


def _asked(context: Context, where: str, silent: frozenset[str]) -> Answered:
    cloud, _, step = where.partition("/")
    request = write(DoctorRequest(doctor="look", silent=tuple(sorted(silent))))
    names = function_names(context.stack, step) if cloud == "aws" else (f"{context.name}/{DOCTOR}",)
    try:
        if cloud == "aws":
            answer = aws.call(context.plan.lock.region, names, request)
        else:
            answer = _called_in_oci(context, names[0], request)
    except LockstepError as error:
        found = unanswered(FUNCTION, names[0], error)
    else:
        if answer:
            return answer_of(context, where, *answer)
        fix = f"{_DEPLOY[cloud]}, or name it: --stack, --oci-name"
        found = not_asked(FUNCTION, names[0], "it is not deployed, or has another name", fix)
    return [structs.replace(found, where=where)], frozenset()


def _called_in_oci(context: Context, name: str, request: dict[str, object]) -> tuple[str, bytes] | None:
    from lockstep.oci.functions import call  # noqa: PLC0415 - the extra may be missing

    clients = context.clouds.oci(vault_of(context.plan).region)
    function = next(iter(functions_of(context, DOCTOR)), None)
    return (name, call(clients, function, request)) if function else None


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
        # Of the function itself, or of the platform.
        if isinstance(document, dict) and document.keys() & {"error", "errorType", "errorMessage"}:
            error = str(document.get("error") or document.get("errorType", ""))
            told = error if error.isidentifier() else "it did not answer in time, or crashed"
            wrong = failed(FUNCTION, name, f"it has failed: {told}", _log_of(context, cloud, name))
        else:
            reply: Reply = read(Reply, document)
            own = [passed(FUNCTION, name, "it has answered"), *_plans(context.plan, reply, name, cloud)]
            mine = [structs.replace(finding, where=where) for finding in own]
            return [*mine, *reply.findings], frozenset(reply.refused)
    except MessageError:
        wrong = failed(
            FUNCTION, name, "this command does not know its answer: the builds differ", _DEPLOY[cloud]
        )
    perhaps = every_database(context.plan) if where in ASK_DATABASES else frozenset()
    return [structs.replace(wrong, where=where)], perhaps


def _log_of(context: Context, cloud: str, name: str) -> str:
    if cloud == "oci":
        return "look at its log in OCI Logging: docs/alarms.md"
    group = f"/aws/lambda/{name.removesuffix('-zip')}"
    return formatting.aws(context.plan.lock.region, "logs tail", group)


def _plans(plan: Plan, reply: Reply, name: str, cloud: str) -> Iterator[Finding]:
    fix = f"{_DEPLOY_PLAN[cloud]}  # with this plan; what changes: lockstep plan diff OLD NEW"
    here = {c.id: c.plan_digest for c in plan.compiled.credentials}
    for credential_id in sorted(here.keys() | reply.plans.keys()):
        if here.get(credential_id) == reply.plans.get(credential_id):
            yield passed(PLAN, credential_id, f"{name} has the plan that is here")
        else:
            yield failed(
                PLAN, credential_id, f"{name} has another plan of it, or one of the two has none", fix
            )
