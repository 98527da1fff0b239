"""The HTTP server of the agent and of the live page: it says nothing of itself, and ends when a signal tells it to."""

from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp


def server_of(app: ASGIApp, *, graceful_seconds: int) -> tuple[uvicorn.Server, Callable[..., None]]:
    """A server, and what ends it: a handler of signals.

    Args:
        app: What answers.
        graceful_seconds: For so long requests under way are waited for at the end.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=graceful_seconds,
        )
    )

    def end(*_received: object) -> None:
        server.should_exit = True

    return server, end
