"""The page as a process: its routes, what no request gets past, and HTML by the templates here."""

import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lockstep import __version__
from lockstep.agent.server import listener_of, server_of
from lockstep.operate.access import operator
from lockstep.operate.formatting import absolute, clock_time, relative, span
from lockstep.operate.html.templates import environment, style
from lockstep.operate.page.detail import detail, progress
from lockstep.operate.page.fleet import Asked, Order, age_map, fleet, href_of
from lockstep.operate.page.snapshot import Calls, Looker, Poller
from lockstep.plan.model import Plan
from lockstep.protocol.ports import Clock
from lockstep.runtime.system import SystemClock


class Pages:
    """Makes pages.

    Args:
        lock: Name and region of the lock table, which tells two deployments apart.
    """

    def __init__(self, lock: str) -> None:
        self._lock = lock
        self._templates = environment("lockstep.operate.page")
        self._templates.filters |= {"href": href_of, "relative": relative, "clock_time": clock_time}

    def asset(self, name: str) -> str:
        """A file that the pages load."""
        if name == "page.css":
            return style(self._templates, name)
        return self._templates.get_template(name).render()

    def overview(self, poller: Poller, calls: Calls, asked: Asked, now: datetime) -> str:
        """The page of all credentials."""
        look = poller.latest
        shown = fleet(look, asked, now)
        return self._templates.get_template("overview.html.j2").render(
            f=shown,
            map=age_map(list(look.seen.values()), now),
            running=[progress(one, now) for one in shown.running],
            **self._frame(poller, calls, now),
        )

    def credential(self, poller: Poller, calls: Calls, credential_id: str, now: datetime) -> str:
        """The page of a credential."""
        seen = poller.latest.seen[credential_id]
        return self._templates.get_template("credential.html.j2").render(
            d=detail(seen, now), seen=seen, **self._frame(poller, calls, now)
        )

    def _frame(self, poller: Poller, calls: Calls, now: datetime) -> dict[str, object]:
        look = poller.latest
        return {
            "now": now,
            "lock": self._lock,
            "version": __version__,
            "problem": look.problem,
            "steps_problem": look.steps_problem,
            "looked": absolute(look.at, now),
            "old": span(now - look.at),
            "every": round(poller.seconds),
            "calls": calls.last_minute,
        }


# The page's routes, and what no request gets past.
#
#     GET /                     all credentials; `q`, `order` and `page` choose rows
#     GET /credential/<id>      one of them
#     GET /page.css, /live.js, /icon.svg
#
# There is no other method. A page of another site can make a browser ask loopback, under a name of its own (DNS
# rebinding) or across origins; such a request is refused before a route is looked for. Nothing may be cached or
# framed, and a page loads its own style sheet and script and nothing else.

MOST_TEXT = 100
"""Characters of a search."""
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
_OWN_SITES = frozenset({"same-origin", "none"})
"""Of `Sec-Fetch-Site`: a request of the page itself, and an address that a person has typed
(https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header)."""


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
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items()),
                ]
            await send(message)

        refused = self._refused(scope["method"], Headers(scope=scope))
        await (refused or self._app)(scope, receive, with_headers)

    def _refused(self, method: str, headers: Headers) -> Response | None:
        if headers.get("host", "").lower() not in self._hosts:
            return PlainTextResponse("This address is not of this page.\n", 421)
        origin = headers.get("origin")
        is_own = origin is None or origin.lower().removeprefix("http://") in self._hosts
        if not is_own or headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            return PlainTextResponse("Another site may not ask. Open the address by hand.\n", 403)
        if method not in _METHODS:
            return PlainTextResponse("This page changes nothing.\n", 405, headers={"Allow": "GET, HEAD"})
        return None


class Site:
    """Answers requests.

    Args:
        poller: Knows the state.
        pages: Makes HTML.
        calls: To the clouds.
        clock: Which time it is.
    """

    def __init__(self, poller: Poller, pages: Pages, calls: Calls, clock: Clock) -> None:
        self._poller = poller
        self._pages = pages
        self._calls = calls
        self._clock = clock

    def routes(self) -> list[Route]:
        """What can be asked for."""
        assets = {"page.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}
        return [
            Route("/", self.overview),
            Route("/credential/{id:path}", self.credential),
            *(Route(f"/{name}", _asset(self._pages.asset(name), kind)) for name, kind in assets.items()),
        ]

    def overview(self, request: Request) -> Response:
        """All credentials."""
        self._poller.ask()
        text = self._pages.overview(
            self._poller, self._calls, _asked(request.query_params), self._clock.now()
        )
        return Response(text, media_type="text/html")

    def credential(self, request: Request) -> Response:
        """One credential."""
        credential_id = request.path_params["id"]
        if credential_id not in self._poller.latest.seen:
            return PlainTextResponse("The plan has no such credential.\n", 404)
        self._poller.ask(credential_id)
        text = self._pages.credential(self._poller, self._calls, credential_id, self._clock.now())
        return Response(text, media_type="text/html")


def app_of(site: Site, hosts: frozenset[str]) -> ASGIApp:
    """The ASGI application."""
    return Guard(Starlette(routes=site.routes()), hosts)


def _asset(text: str, media_type: str) -> Callable[[Request], Response]:
    def answer(_request: Request) -> Response:
        return Response(text, media_type=media_type)

    return answer


def _asked(parameters: Mapping[str, str]) -> Asked:
    page, order = parameters.get("page", ""), parameters.get("order", "")
    orders: dict[str, Order] = {name: name for name in get_args(Order)}
    return Asked(
        text=parameters.get("q", "")[:MOST_TEXT],
        order=orders.get(order, "state"),
        page=int(page)
        if page.isascii() and page.isdigit() and 0 < len(page) <= len("10000") and int(page)
        else 1,
    )


# The page as a process: it looks, and answers requests until it is told to end.

_ENDS = (signal.SIGTERM, signal.SIGINT)
HTTP = 80


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
            ListenError: The port is taken, or this user may not.
        """
        listener = listener_of(host, port)
        return cls(listener, host, listener.getsockname()[1])

    @property
    def url(self) -> str:
        """To be opened."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def names(self) -> frozenset[str]:
        """What a browser may call it: host and port, without the port where it is that of HTTP."""
        hosts = (f"[{self.host}]" if ":" in self.host else self.host, "localhost")
        return frozenset(
            {f"{host}:{self.port}" for host in hosts} | ({*hosts} if self.port == HTTP else set())
        )


def serve_until_signal(
    plan: Plan, address: Address, *, machine: Callable[[], str], ready: Callable[[], None]
) -> None:
    """Look and answer until SIGTERM or SIGINT.

    Args:
        plan: The plan.
        address: Where.
        machine: Returns the ARN of the state machine, or of an alias of it.
        ready: Called once it answers.

    Raises:
        LockstepError: The lock table cannot be read at the start.
    """
    clock = SystemClock()
    calls = Calls(clock.monotonic)
    poller = Poller(Looker(plan, operator(plan, deadline_guard=calls.count), calls, machine), clock)
    site = Site(poller, Pages(f"{plan.lock.table}, {plan.lock.region}"), calls, clock)
    server, end = server_of(app_of(site, address.names), graceful_seconds=2)

    # Uvicorn has handlers of its own meanwhile; afterwards it raises what it has received again.
    before = {number: signal.signal(number, end) for number in _ENDS}
    try:
        with poller.looking():
            ready()
            server.run([address.listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
