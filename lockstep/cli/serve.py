"""`lockstep serve`: a page to look at."""

import webbrowser
from functools import cache, partial
from typing import Annotated, Literal

import typer

from lockstep.agent.settings import ListenError
from lockstep.cli.execution import located
from lockstep.cli.output import DEFAULT_PLAN, PlanFile, plan_or_exit, say_aside, wrong_use
from lockstep.protocol.errors import ServeExtraMissingError
from lockstep.protocol.names import DEFAULT_STACK, LIVE


def serve(
    *,
    file: PlanFile = DEFAULT_PLAN,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Of this machine; 0: a free one.")
    ] = 0,
    host: Annotated[
        Literal["127.0.0.1", "::1"], typer.Option("--host", help="The address of loopback.")
    ] = "127.0.0.1",
    stack: Annotated[
        str,
        typer.Option("--stack", envvar="LOCKSTEP_STACK", help="`stack` in cdk.json, for the steps of runs."),
    ] = DEFAULT_STACK,
    opens: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show the state of all credentials on a page, live, until Ctrl-C.

    The page is for this machine only, changes nothing and knows no password: state, age and overlap of each credential,
    the last runs of both clouds, a map of all ages, and runs that are under way, step by step. It looks at the clouds
    every 2 seconds while somebody looks at it, every second while a run is under way, and every 5 minutes otherwise; it
    says how many calls that makes and what they cost at most. It needs the rights of `lockstep status`, and
    for the steps of runs those of `lockstep rotate`.

    Exit code: 0 after Ctrl-C, 2 wrong use or the port is taken, 3 the lock table is unreachable at the start.
    """
    plan = plan_or_exit(file)
    try:
        from lockstep.operate.page.server import Address, serve_until_signal  # noqa: PLC0415 - no other command needs it
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("lockstep"):
            raise
        raise ServeExtraMissingError(code=str(error.name)) from None
    try:
        address = Address.taken(host, port)
    except ListenError as error:
        raise wrong_use(
            f"--port: {error.where['path']}: {error.where['code']}. Take a free one: lockstep serve --port 0"
        ) from None
    with address.listener:
        machine = cache(partial(located, plan, stack, LIVE))
        serve_until_signal(plan, address, machine=machine, ready=partial(_tell, address.url, opens=opens))


def _tell(url: str, *, opens: bool) -> None:
    say_aside(f"{url} shows the state, to this machine only; Ctrl-C ends it")
    if opens:
        webbrowser.open(url)
