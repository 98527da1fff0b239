"""The entry point of `cdk synth` and `cdk deploy`: reads context and plan, makes the stack, runs the checks."""

import sys

from aws_cdk import App

from cdk import nag
from cdk.bundle import BundleError
from cdk.settings import Deployment, NotDeployableError, Settings, read_deployment
from cdk.stack import LockstepStack
from lockstep.plan_file import PlanProblemsError


def make_app(settings: Settings, app: App) -> LockstepStack:
    """Add the stack and its checks to the app.

    Raises:
        PlanProblemsError: The plan is not valid.
        NotDeployableError: The plan is valid, but this stack cannot deploy it.
        BundleError: Packaging is zip, and there is no bundle.
    """
    stack = add_stack(read_deployment(settings), app)
    nag.check(app)
    return stack


def add_stack(deployment: Deployment, app: App) -> LockstepStack:
    """Add the stack alone."""
    return LockstepStack(app, deployment)


def main() -> int:
    """Synthesise the stack and return the exit code."""
    app = App()
    try:
        make_app(Settings.from_context(app.node.try_get_context), app)
    except PlanProblemsError as error:
        print("\n".join(error.problems), file=sys.stderr)  # noqa: T201 - the CLI shows it
        return 2
    except (NotDeployableError, BundleError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the CLI shows it
        return 2
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
