"""The entry point of `cdk synth` and `cdk deploy`: reads context and plan, makes the stack, runs the checks."""

import sys

from aws_cdk import App

from cdk import nag
from cdk.bundle import BundleError
from cdk.deployment import Deployment, check_complete, read_deployment
from cdk.settings import NotDeployableError, Settings, check_names
from cdk.stack import LockstepStack
from lockstep.plan.file import PlanProblemsError


def make_app(deployment: Deployment, app: App) -> LockstepStack:
    """Add the stack and its checks to the app.

    Raises:
        BundleError: Packaging is zip, and there is no bundle.
    """
    stack = add_stack(deployment, app)
    nag.check(app)
    return stack


def add_stack(deployment: Deployment, app: App) -> LockstepStack:
    """Add the stack alone."""
    return LockstepStack(app, deployment)


def main() -> int:
    """Synthesise the stack and return the exit code."""
    app = App()
    try:
        check_names(app.node.get_all_context())
        deployment = read_deployment(Settings.from_context(app.node.try_get_context))
        check_complete(deployment)
        make_app(deployment, app)
    except PlanProblemsError as error:
        print("\n".join(error.lines), file=sys.stderr)  # noqa: T201 - the CLI shows it
        return 2
    except (NotDeployableError, BundleError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the CLI shows it
        return 2
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
