"""`make rollback-aws`: let the rules start an older version again.

`python -m cdk.rollback [--to NUMBER] [--dry-run] [--profile NAME] [-c NAME=VALUE]`

The aliases are moved to the version before the one that they lead to, or to the one that is named, also to a newer
one. A run under way goes on with the version that it began with. Nothing else is changed: policies, rules, alarms and
the watch stay as they were deployed.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cdk.deploy import settings_of
from cdk.settings import ROOT, NotDeployableError
from lockstep.plan.file import PlanProblemsError, load_plan
from lockstep.protocol.names import CANARY, LIVE

_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
_USAGE = 2
_FUNCTION = re.compile(r"arn:[a-z0-9-]+:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9_-]+:\d+")
"""A version of a function, in the definition of a state machine."""


class NotPossibleError(Exception):
    """Nothing was moved; the text says what to change."""


@dataclass(frozen=True)
class Versions:
    """The versions of a stack's state machine.

    Attributes:
        client: Returns a client of a service, by boto3's name.
        machine: The ARN of the state machine.
    """

    client: Callable[[str], Any]
    machine: str

    @classmethod
    def of(cls, client: Callable[[str], Any], stack: str) -> Self:
        """The versions of a stack that nothing changes now.

        Raises:
            NotPossibleError: A deployment is under way, and moves the aliases itself.
        """
        (described,) = client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        if described["StackStatus"].endswith("_IN_PROGRESS"):
            raise NotPossibleError(
                "a deployment is under way. To end it and take it back: aws cloudformation cancel-update-stack "
                f"--stack-name {stack}"
            )
        outputs = {o["OutputKey"]: o["OutputValue"] for o in described.get("Outputs", [])}
        return cls(client, outputs["StateMachineArn"].removesuffix(f":{LIVE}"))

    def aliases(self) -> Mapping[str, int]:
        """The version that each alias leads to, by the alias's name, of those that rules start."""
        client = self.client("stepfunctions")
        listed = client.list_state_machine_aliases(stateMachineArn=self.machine)["stateMachineAliases"]
        found = {}
        for arn in (alias["stateMachineAliasArn"] for alias in listed):
            name = arn.removeprefix(f"{self.machine}:")
            if name in (LIVE, CANARY):
                (route,) = client.describe_state_machine_alias(stateMachineAliasArn=arn)[
                    "routingConfiguration"
                ]
                found[name] = _number(route["stateMachineVersionArn"])
        return found

    def before(self, number: int) -> int:
        """The newest version that is older.

        Raises:
            NotPossibleError: There is none.
        """
        # A machine has no more of them.
        listed = self.client("stepfunctions").list_state_machine_versions(
            stateMachineArn=self.machine, maxResults=1000
        )
        numbers = [_number(v["stateMachineVersionArn"]) for v in listed["stateMachineVersions"]]
        older = [version for version in numbers if version < number]
        if not older:
            raise NotPossibleError(f"no version is older than {number}")
        return max(older)

    def move(self, names: Sequence[str], number: int) -> None:
        """Let the aliases lead to a version.

        Raises:
            NotPossibleError: A function that the version calls is not there any more.
        """
        arn = f"{self.machine}:{number}"
        missing = [function for function in self._functions(arn) if not self._exists(function)]
        if missing:
            raise NotPossibleError(
                f"version {number} calls what was deleted: {', '.join(missing)}; deploy its code again instead"
            )
        for name in names:
            self.client("stepfunctions").update_state_machine_alias(
                stateMachineAliasArn=f"{self.machine}:{name}",
                routingConfiguration=[{"stateMachineVersionArn": arn, "weight": 100}],
            )

    def _functions(self, version_arn: str) -> Sequence[str]:
        try:
            machine = self.client("stepfunctions").describe_state_machine(stateMachineArn=version_arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "StateMachineDoesNotExist":
                raise
            raise NotPossibleError(f"there is no version {_number(version_arn)}") from None
        return sorted(set(_FUNCTION.findall(machine["definition"])))

    def _exists(self, function_arn: str) -> bool:
        try:
            self.client("lambda").get_function_configuration(FunctionName=function_arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return False
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """Move the aliases; the exit code: 2 if something has to be changed first, 1 if AWS refused."""
    parser = argparse.ArgumentParser(prog="python -m cdk.rollback", description=__doc__.partition("\n")[0])
    parser.add_argument("--to", type=int, metavar="NUMBER", help="the version  [default: the one before]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be moved, and move nothing")
    parser.add_argument("--profile", help="the profile of the AWS configuration")
    parser.add_argument("-c", "--context", action="append", default=[], metavar="NAME=VALUE")
    asked = parser.parse_args(argv)
    try:
        settings = settings_of(asked.context)
        region = load_plan(ROOT / settings.plan).lock.region
        session: Any = boto3.Session(profile_name=asked.profile, region_name=region)
        versions = Versions.of(lambda service: session.client(service, config=_CONFIG), settings.stack)
        now = versions.aliases()
        number = asked.to or versions.before(now[LIVE])
        if not asked.dry_run:
            versions.move(list(now), number)
    except PlanProblemsError as error:
        return _stopped("\n".join(error.lines), _USAGE)
    except (NotDeployableError, NotPossibleError) as error:
        return _stopped(str(error), _USAGE)
    except (BotoCoreError, ClientError) as error:
        return _stopped(str(error), 1)
    would = "would be moved" if asked.dry_run else "moved"
    for name, version in now.items():
        print(f"{settings.stack}: {name} {would} from version {version} to {number}")  # noqa: T201 - a command line
    return 0


def _number(version_arn: str) -> int:
    return int(version_arn.rpartition(":")[2])


def _stopped(text: str, code: int) -> int:
    print(text, file=sys.stderr)  # noqa: T201 - a command line
    return code


if __name__ == "__main__":
    sys.exit(main())
