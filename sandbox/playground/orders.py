"""What a person's commands do in the process that holds both clouds and the databases."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lockstep.plan.file import PlanProblemsError
from sandbox.outside import Value, lets_in
from sandbox.playground.control import Answer
from sandbox.playground.deployment import deploy
from sandbox.playground.world import World


class Orders:
    """Takes commands, one at a time.

    Args:
        world: What runs.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._commands: Mapping[str, Callable[..., Answer]] = {
            "ping": lambda: Answer(0, ""),
            "deploy": self._deploy,
            "standby": self._standby,
            "value": self._value,
            "edit": self._edit,
            "login": self._login,
        }

    def take(self, words: Sequence[str]) -> Answer:
        """Do a command; whatever goes wrong is told, and the sandbox goes on."""
        command, *rest = words
        try:
            return self._commands[command](*rest)
        except PlanProblemsError as error:
            return Answer(2, "\n".join(error.lines))
        except Exception as error:  # noqa: BLE001 - told to the person, whose sandbox must not end
            return Answer(3, f"{type(error).__name__}: {error}")

    def _deploy(self, plan: str) -> Answer:
        return Answer(0, "\n".join(deploy(self._world, Path(plan))))

    def _standby(self, credential: str, *more: str) -> Answer:
        if self._world.function is None:
            return Answer(2, "the deployed plan has no runner in OCI, or none is deployed: sandbox deploy")
        asked = {"credential_id": credential, "trigger": "manual", "force": "--force" in more}
        answer = self._world.function.call(asked)
        found = answer.body
        return Answer(
            0 if answer.status == OK else 1, "\n".join(_describe(r) for r in found.get("results", [found]))
        )

    def _value(self, secret: str) -> Answer:
        client = self._world.aws.client("secretsmanager")
        return Answer(0, str(client.get_secret_value(SecretId=secret)["SecretString"]))

    def _edit(self, secret: str, text: str) -> Answer:
        self._world.aws.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=text.strip())
        return Answer(0, f"{secret} has a new version, which is current")

    def _login(self, database: str, text: str) -> Answer:
        found = json.loads(text)
        value = Value(found["username"], found["password"])
        if database not in self._world.servers:
            return Answer(2, f"no {database} here; there are {', '.join(self._world.servers)}")
        return ACCEPTED if lets_in(self._world.as_planned(database), value) else REFUSED


OK = 200
ACCEPTED, REFUSED = Answer(0, "accepted"), Answer(1, "refused")


def _describe(result: Mapping[str, Any]) -> str:
    """What the OCI function answers about a run, in words."""
    if "error" in result:
        return f"failed: {result['error']}: {result['message']}"
    generation = f", generation {result['generation']} is current" if result["generation"] else ""
    return f"{result['outcome']}{generation}"
