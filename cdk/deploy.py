"""`make deploy-aws`: ask the account what exists, say what is adopted, publish the plan, let the CDK CLI deploy.

`python -m cdk.deploy [--dry-run] [--profile NAME] [arguments of cdk deploy]`

`cdk deploy` alone uses the setting `adopt` as it is written. This command completes it: what the stack has made before,
and no longer manages, is taken back. What exists and is not to be adopted is an error that names the line to add.

The plan is published before the deployment, so that what is deployed finds it. Where the bucket is made by this
deployment, it is published right after that. The secrets that the plan's credentials lack are made at the end, as
`lockstep secrets create --cloud aws` does: their key is one of the stack's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import typer
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from cdk.account import Account, StackState, UnansweredError
from cdk.app import synthesise
from cdk.bundle import BundleError
from cdk.deployment import Deployment, NotPublishedError, Publication, check_complete, read_deployment
from cdk.existing import Estate, look
from cdk.settings import ROOT, Adopt, NotDeployableError, Settings, check_names
from lockstep.aws.reads import AwsReads
from lockstep.aws.reads import Client as AwsClient
from lockstep.cli import secrets as secrets_command
from lockstep.operate.secrets import StackTerms, rotated_in_aws
from lockstep.plan.file import PlanProblemsError
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.names import KEY_OUTPUT, plan_bucket_name

_CLI = ROOT / "node_modules" / ".bin" / "cdk"
_USAGE = 2
_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
_ONCE = _CONFIG.merge(Config(retries={"total_max_attempts": 1}))
"""Of calls that are repeated here."""


def settings_of(context: Sequence[str]) -> Settings:
    """The settings of `cdk.json`, with those of the command line over them.

    Args:
        context: Each `name=value`.

    Raises:
        NotDeployableError: A setting is wrong, or `cdk.json` is not JSON.
    """
    try:
        given = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    except json.JSONDecodeError as error:
        raise NotDeployableError(f"cdk.json: it is not valid JSON: {error}") from error
    except KeyError as error:
        raise NotDeployableError("cdk.json: it has no settings; they are in `context`") from error
    for assignment in context:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise NotDeployableError(f"--context {assignment}: give name=value")
        given[name] = value
    check_names(given)
    return Settings.from_context(given.get)


def examine(deployment: Deployment, account: Account, state: StackState) -> Estate:
    """What becomes of what exists in the account.

    Raises:
        BundleError: Packaging is zip, and there is no bundle.
    """
    nothing_adopted = deployment.settings.model_copy(update={"adopt": Adopt()})
    with tempfile.TemporaryDirectory(prefix="lockstep-deploy-") as folder:
        template = synthesise(replace(deployment, settings=nothing_adopted), Path(folder))
    return look(deployment, template["Resources"], account, state)


def arguments(estate: Estate, given: Sequence[str], context: Sequence[str]) -> list[str]:
    """The arguments of the CDK CLI: the complete `adopt`, and what was given."""
    kept = [part for a in context if not a.startswith("adopt=") for part in ("--context", a)]
    adopt = json.dumps(estate.adopt.model_dump(mode="json"), separators=(",", ":"))
    return ["deploy", *kept, "--context", f"adopt={adopt}", *given]


def main(argv: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - each way to stop has its own
    """Look, say, deploy; the exit code: 2 if something has to be changed first, else that of the CDK CLI."""
    parser = argparse.ArgumentParser(prog="python -m cdk.deploy", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be adopted, and deploy nothing"
    )
    parser.add_argument("--profile", help="the profile of the AWS configuration")
    parser.add_argument("-c", "--context", action="append", default=[], metavar="NAME=VALUE")
    asked, more = parser.parse_known_args(argv)
    try:
        deployment = read_deployment(settings_of(asked.context))
        check_complete(deployment)
        region = deployment.plan.lock.region
        session: Any = boto3.Session(profile_name=asked.profile, region_name=region)
        client = partial(session.client, config=_CONFIG)
        account = Account(client, region)
        state = account.stack(deployment.settings.stack)
        estate = examine(deployment, account, state)
        publication = Publication(deployment, client("s3"))
        # A bucket of somebody else is one of the estate's problems.
        bucket = plan_bucket_name(deployment.plan.audit.aws.bucket)
        is_there = not estate.problems and account.bucket(bucket) is not None
    except PlanProblemsError as error:
        return _stopped(error.lines)
    except (BotoCoreError, BundleError, NotDeployableError, UnansweredError) as error:
        return _stopped([str(error)])
    _say(f"account {account.id}, {account.region}, stack {deployment.settings.stack}")
    for taken in estate.taken:
        _say(f"adopted: {taken}")
    for note in estate.notes:
        _say(f"note: {note}")
    if estate.problems:
        return _stopped(estate.problems)
    when = "before" if is_there else "after"
    if asked.dry_run:
        _say(f"adopt: {json.dumps(estate.adopt.model_dump(mode='json'))}")
        _say(f"{when} the deployment the plan would be published: {publication.address}")
        _say(
            "after it the secrets that are missing would be made: `lockstep secrets create --dry-run` lists them"
        )
        return 0
    if not _CLI.exists():
        return _stopped(["the CDK CLI is not installed; `make deploy-cdk` installs it"])
    if is_there and not _published(publication):
        return _USAGE
    profile = ["--profile", asked.profile] if asked.profile else []
    # Both write to the same terminal, and the CLI writes past Python's buffer.
    sys.stdout.flush()
    ended = subprocess.run(  # noqa: S603 - the arguments are those of the person who runs it
        [_CLI, *arguments(estate, [*profile, *more], asked.context)], cwd=ROOT, check=False
    ).returncode
    if ended:
        return ended
    published = is_there or _published(publication)
    made = create_secrets(deployment, lambda service, where: session.client(service, where, config=_ONCE))
    return 0 if published and made else _USAGE


def create_secrets(deployment: Deployment, client: AwsClient) -> bool:
    """Make the secrets in AWS that the plan's credentials lack; whether all are there now.

    Args:
        deployment: What was deployed.
        client: Gives a client of a service in a region, which tries each call once.
    """
    plan, settings = deployment.plan, deployment.settings
    if plan.store(AwsSecretsManager) is None:
        return True
    try:
        outputs = AwsReads(client, plan.lock.region).stack_outputs(settings.stack)
        terms = StackTerms(stack=settings.stack, key=outputs[KEY_OUTPUT], tags=settings.tags)
        room = secrets_command.carried_out(secrets_command.aws_room(client, terms, rotated_in_aws(plan)))
    except (LockstepError, typer.Exit) as error:
        why = f"{error.name}: {error}" if isinstance(error, LockstepError) else "not all are there"
        again = f"lockstep secrets create --cloud aws --stack {settings.stack} --plan {settings.plan}"
        _stopped([f"secrets of credentials: {why}; repeat `{again}`"])
        return False
    secrets_command.show(room)
    return not room.refused


def _published(publication: Publication) -> bool:
    try:
        _say(publication.publish())
    except NotPublishedError as error:
        _stopped([str(error)])
        return False
    return True


def _say(text: str) -> None:
    print(text)  # noqa: T201 - a command line


def _stopped(problems: Sequence[str]) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 - a command line
    return _USAGE


if __name__ == "__main__":
    sys.exit(main())
