"""The CDK CLI as a person uses it, with the sandbox for an account."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sandbox.emulators.aws import AwsSandbox

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ROOT / "node_modules" / ".bin" / "cdk"
_LIMIT_SECONDS = 900
_DEPLOY = ("deploy", "--require-approval", "never")
_INHERITED = ("HOME", "LANG", "PATH")


class CdkError(Exception):
    """The CLI is not there, or it failed; the text ends with what it said."""


class CdkCli:
    """Bootstraps and deploys into a running sandbox.

    Args:
        aws: Takes the deployment.
        output: A folder for the cloud assembly.
    """

    def __init__(self, aws: AwsSandbox, output: Path) -> None:
        self._aws = aws
        self._output = output

    def bootstrap(self) -> None:
        """Make what CDK needs in an account: staging bucket and roles.

        Raises:
            CdkError: It failed.
        """
        # Not from the repository: with an app at hand, the CLI would synthesise it first.
        self._run("bootstrap", f"aws://{self._aws.account_id}/{self._aws.region}", cwd=self._output.parent)

    def deploy(self, context: Mapping[str, str]) -> str:
        """Synthesise the stack, with its checks, and deploy it; what the CLI says.

        Args:
            context: Settings that differ from `cdk.json`.

        Raises:
            CdkError: It failed.
        """
        return self._run(*_DEPLOY, "--output", str(self._output), *_context(context), cwd=ROOT)

    def _run(self, *arguments: str, cwd: Path) -> str:
        if not COMMAND.exists():
            raise CdkError("the CDK CLI is not there; `make cdk-cli` installs it")
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        done = subprocess.run(
            [COMMAND, *arguments, "--ci", "--no-notices", "--no-color"],
            env={
                **environment,
                **self._aws.environment(),
                # Debian's node is older than CDK likes; it says so in twelve lines.
                "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
                "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION": "1",
            },
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_SECONDS,
        )
        if done.returncode:
            raise CdkError(f"cdk {arguments[0]} failed\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout + done.stderr


def _context(settings: Mapping[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("--context", f"{name}={value}")]
