"""The page's routes, and what no request gets past.

    GET /                     all credentials; `q`, `order` and `page` choose rows
    GET /credential/<id>      one of them
    GET /page.css, /live.js, /icon.svg

There is no other method. A page of another site can make a browser ask loopback, under a name of its own (DNS
rebinding) or across origins; such a request is refused before a route is looked for. Nothing may be cached or framed,
and a page loads its own style sheet and script and nothing else.
"""

from collections.abc import Callable, Mapping
from typing import get_args

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lockstep.ports import Clock
from lockstep.serve.calls import Calls
from lockstep.serve.fleet import Asked, Order
from lockstep.serve.pages import Pages
from lockstep.serve.poller import Poller

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
