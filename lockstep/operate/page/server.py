"""The page as a process: its routes, what no request gets past, and HTML by the templates here.

    GET /                     all credentials; `q` and `page` choose rows
    GET /credential/<id>      one of them
    GET /page.css, /live.js, /icon.svg

There is no other method. A page of another site can make a browser ask loopback, under a name of its own (DNS
rebinding) or across origins; such a request is refused before a route is looked for. Nothing may be cached or framed,
and a page loads its own style sheet and script and nothing else.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from msgspec import ValidationError, convert
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lockstep import __version__
from lockstep.agent.server import listener_of, names_of, refusal_of, run_until_signal
from lockstep.operate.access import operator
from lockstep.operate.formatting import absolute, clock_time, generation_name, relative, span
from lockstep.operate.history import run_ending
from lockstep.operate.html.templates import environment, style
from lockstep.operate.page import fleet
from lockstep.operate.page.fleet import Asked
from lockstep.operate.page.snapshot import Calls, Looker, Poller
from lockstep.operate.state import document, lines
from lockstep.plan.model import Plan
from lockstep.protocol.errors import line_of
from lockstep.protocol.ports import Clock
from lockstep.runtime.system import SystemClock

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
_METHODS = frozenset({"GET", "HEAD"})


class Guard:
    """Refuses what the page itself does not send, and adds the headers to every answer.

    Args:
        app: What answers the other requests.
        hosts: The names and ports under which this is the page.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        refused = refusal_of(Headers(scope=scope), self._hosts)
        if refused is None and scope["method"] not in _METHODS:
            refused = PlainTextResponse("This page changes nothing.\n", 405, headers={"Allow": "GET, HEAD"})
        await (refused or self._app)(scope, receive, with_headers)


class Site:
    """Answers requests.

    Args:
        poller: Knows the state.
        lock: Name and region of the lock table, which tells two deployments apart.
        calls: To the clouds.
        clock: Which time it is.
    """

    def __init__(self, poller: Poller, lock: str, calls: Calls, clock: Clock) -> None:
        self._poller = poller
        self._lock = lock
        self._calls = calls
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
        return self._answer("overview.html.j2", asked=_asked(request.query_params))

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
            calls=self._calls.last_minute,
            **shown,
        )
        return Response(text, media_type="text/html")


def app_of(site: Site, hosts: frozenset[str]) -> ASGIApp:
    """The ASGI application."""
    return Guard(Starlette(routes=site.routes()), hosts)


def _file(media_type: str, text: str, _request: Request) -> Response:
    return Response(text, media_type=media_type)


def _asked(parameters: Mapping[str, str]) -> Asked:
    try:
        return convert(dict(parameters), Asked, strict=False)
    except ValidationError:
        return Asked()


# The page as a process: it looks, and answers requests until it is told to end.


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is: a socket of loopback that listens."""

    listener: socket.socket
    host: str
    port: int

    @classmethod
    def taken(cls, host: str, port: int) -> "Address":
        """Listen from now on.

        Raises:
            EnvironmentalError: The port is taken, or this user may not.
        """
        listener = listener_of(host, port)
        return cls(listener, host, listener.getsockname()[1])

    @property
    def url(self) -> str:
        """To be opened."""
        return (
            f"http://[{self.host}]:{self.port}/" if ":" in self.host else f"http://{self.host}:{self.port}/"
        )

    @property
    def names(self) -> frozenset[str]:
        """What a browser may call it."""
        return names_of(self.host, self.port)


def serve_until_signal(plan: Plan, address: Address, *, ready: Callable[[], None]) -> None:
    """Look and answer until SIGTERM or SIGINT.

    Args:
        plan: The plan.
        address: Where.
        ready: Called once it answers.

    Raises:
        LockstepError: The lock table cannot be read at the start.
    """
    clock = SystemClock()
    calls = Calls(clock.monotonic)
    poller = Poller(Looker(plan, operator(plan, deadline_guard=calls.count), calls), clock)
    site = Site(poller, f"{plan.lock.table}, {plan.lock.region}", calls, clock)
    with poller.looking():
        ready()
        run_until_signal(app_of(site, address.names), address.listener, graceful_seconds=2)
