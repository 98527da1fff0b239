"""The page as a process: its routes, what no request gets past, and HTML by the templates here.

    GET /                     all credentials; `q` chooses rows
    GET /credential/<id>      one of them
    GET /page.css, /live.js, /icon.svg

There is no other method. A page of another site can make a browser ask loopback, under a name of its own (DNS
rebinding) or across origins; such a request is refused before a route is looked for. Nothing may be cached or framed,
and a page loads its own style sheet and script and nothing else.
"""

import socket
from collections.abc import Callable
from functools import partial

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lockstep import __version__
from lockstep.agent.server import names_of, refusal_of, run_until_signal
from lockstep.operate.access import operator
from lockstep.operate.formatting import absolute, clock_time, generation_name, relative, span
from lockstep.operate.history import run_ending
from lockstep.operate.html.templates import environment, style
from lockstep.operate.page import fleet
from lockstep.operate.page.snapshot import Looker, Poller
from lockstep.operate.state import document, lines
from lockstep.plan.model import Plan
from lockstep.protocol.errors import line_of
from lockstep.protocol.ports import Clock
from lockstep.runtime.system import SystemClock

LONGEST_QUESTION = 100
"""Characters of `q`."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


async def guard(hosts: frozenset[str], request: Request, answer: RequestResponseEndpoint) -> Response:
    """Refuse what the page itself does not send, and add the headers to every answer.

    Args:
        hosts: The names and ports under which this is the page.
        request: The request.
        answer: What answers the other ones.
    """
    refused = refusal_of(request.headers, hosts)
    if refused is None and request.method not in {"GET", "HEAD"}:
        refused = PlainTextResponse("This page changes nothing.\n", 405, headers={"Allow": "GET, HEAD"})
    response = refused or await answer(request)
    response.headers.update(HEADERS)
    return response


class Site:
    """Answers requests.

    Args:
        poller: Knows the state.
        lock: Name and region of the lock table, which tells two deployments apart.
        clock: Which time it is.
    """

    def __init__(self, poller: Poller, lock: str, clock: Clock) -> None:
        self._poller = poller
        self._lock = lock
        self._clock = clock
        self._templates = environment("lockstep.operate.page")
        self._templates.filters |= {"relative": relative, "clock_time": clock_time}
        self._templates.globals |= {
            "page": fleet,
            "run_ending": run_ending,
            "line_of": line_of,
            "lines": lines,
            "document": document,
            "generation_name": generation_name,
        }

    def routes(self) -> list[Route]:
        """What can be asked for."""
        files = {
            "page.css": ("text/css", style(self._templates, "page.css")),
            "live.js": ("text/javascript", self._templates.get_template("live.js").render()),
            "icon.svg": ("image/svg+xml", self._templates.get_template("icon.svg").render()),
        }
        return [
            Route("/", self.overview),
            Route("/credential/{id:path}", self.credential),
            *(Route(f"/{name}", partial(_file, kind, text)) for name, (kind, text) in files.items()),
        ]

    def overview(self, request: Request) -> Response:
        """All credentials."""
        self._poller.ask()
        return self._answer("overview.html.j2", asked=request.query_params.get("q", "")[:LONGEST_QUESTION])

    def credential(self, request: Request) -> Response:
        """One credential."""
        credential_id = request.path_params["id"]
        if credential_id not in self._poller.latest.seen:
            return PlainTextResponse("The plan has no such credential.\n", 404)
        self._poller.ask(credential_id)
        return self._answer("credential.html.j2", seen=self._poller.latest.seen[credential_id])

    def _answer(self, template: str, **shown: object) -> Response:
        now, look = self._clock.now(), self._poller.latest
        text = self._templates.get_template(template).render(
            look=look,
            now=now,
            lock=self._lock,
            version=__version__,
            looked=absolute(look.at, now),
            old=span(now - look.at),
            every=round(self._poller.seconds),
            **shown,
        )
        return Response(text, media_type="text/html")


def app_of(site: Site, port: int) -> ASGIApp:
    """The ASGI application, for a port of loopback."""
    guarded = Middleware(BaseHTTPMiddleware, dispatch=partial(guard, names_of(port)))
    return Starlette(routes=site.routes(), middleware=[guarded])


def _file(media_type: str, text: str, _request: Request) -> Response:
    return Response(text, media_type=media_type)


def serve_until_signal(plan: Plan, listener: socket.socket, *, ready: Callable[[], None]) -> None:
    """Look and answer until SIGTERM or SIGINT.

    Args:
        plan: The plan.
        listener: Of loopback.
        ready: Called once it answers.

    Raises:
        LockstepError: The lock table cannot be read at the start.
    """
    clock = SystemClock()
    site = Site(Poller(Looker(plan, operator(plan)), clock), f"{plan.lock.table}, {plan.lock.region}", clock)
    ready()
    run_until_signal(app_of(site, listener.getsockname()[1]), listener, graceful_seconds=2)
