"""`lockstep adopt`: give the secrets that a stack uses the tags by which its functions know them."""

from typing import Annotated

import typer

from lockstep.adoption import Judgement, State, Wanted, judge, wanted
from lockstep.aws.secret_tags import describe, tag
from lockstep.cli.documents import Adopted, AdoptedSecret
from lockstep.cli.operator import operator
from lockstep.cli.output import (
    DEFAULT_PLAN,
    AsJson,
    CredentialId,
    Exit,
    PlanFile,
    one,
    plan_or_exit,
    print_json,
    say,
)
from lockstep.clouds import Clouds
from lockstep.model import AdminSecret
from lockstep.plan import Plan
from lockstep.plan_admins import is_plain_name
from lockstep.stack_names import DEFAULT_STACK

_STYLES = {State.READY: "green", State.TO_TAG: "yellow", State.TO_BE_MADE: ""}


def adopt(
    *,
    stack: Annotated[str, typer.Option("--stack", help="`stack` in cdk.json.")] = DEFAULT_STACK,
    yes: Annotated[bool, typer.Option("--yes", help="Set the tags.")] = False,
    file: PlanFile = DEFAULT_PLAN,
    credential_id: CredentialId = None,
    as_json: AsJson = False,
) -> None:
    """Tag the secrets in AWS that a stack uses but did not make.

    A stack's functions know its secrets by two tags. The stack sets them on the secrets that it makes; this command
    sets them on those that people made: the rotator admins', the OCI API key, and secrets of credentials that exist.
    It shows for each whether it exists, which KMS key encrypts it, and which tags it lacks. Without --yes it changes
    nothing. It never changes a tag that is there: a secret of another stack or of another kind is in the way.
    Repeating it is harmless. A key that is neither the stack's own nor that of Secrets Manager must be in
    `adopt.keys` of cdk.json.

    Exit code: 0 every secret is ready or will be made by the stack, 1 one is to be tagged, missing or in the way,
    3 Secrets Manager was unreachable.
    """
    plan = plan_or_exit(file)
    if credential_id is not None:
        one(plan, credential_id)
    clouds = operator(plan)
    found = [_looked_up(clouds, item, stack=stack, yes=yes) for item in wanted(plan, credential_id)]
    if as_json:
        print_json(Adopted(stack=stack, secrets=[_document(item) for item in found]))
    else:
        for item in found:
            _show(item)
        for secret in _listed(plan):
            say(f"{secret}: admin, known by its ARN or its name of RDS: it needs no tags")
    states = {item.state for item in found}
    if State.TO_TAG in states and not as_json:
        say("nothing was changed; to set the tags, repeat this with --yes")
    if states - {State.READY, State.TO_BE_MADE}:
        raise typer.Exit(Exit.NO)


def _looked_up(clouds: Clouds, item: Wanted, *, stack: str, yes: bool) -> Judgement:
    client = clouds.aws("secretsmanager", item.region)
    found = judge(item, describe(client, item.name), stack=stack)
    if found.state is not State.TO_TAG or not yes:
        return found
    tag(client, item.name, found.missing_tags)
    return judge(item, describe(client, item.name), stack=stack)


def _show(item: Judgement) -> None:
    say(f"{item.wanted.name}: {item.wanted.kind}, {item.state}", style=_STYLES.get(item.state, "bold red"))
    if item.found:
        say(f"  key: {item.found.key or 'that of Secrets Manager'}")
    for key, value in item.missing_tags.items():
        say(f"  lacks the tag {key}={value}")
    for problem in item.problems:
        say(f"  {problem}")
    if item.state is State.MISSING:
        say("  create it; docs/iam.md shows how")


def _listed(plan: Plan) -> list[str]:
    admins = {server.admin for server in plan.databases}
    return sorted(a.aws for a in admins if isinstance(a, AdminSecret) and not is_plain_name(a.aws))


def _document(item: Judgement) -> AdoptedSecret:
    return AdoptedSecret(
        secret=item.wanted.name,
        kind=item.wanted.kind.value,
        region=item.wanted.region,
        state=item.state.value,
        arn=item.found.arn if item.found else None,
        key=item.found.key if item.found else None,
        missing_tags=item.missing_tags,
        problems=item.problems,
    )
