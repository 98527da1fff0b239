"""HTML, by the templates here and the parts in `lockstep/html`."""

from datetime import datetime

from lockstep import __version__
from lockstep.cli.times import absolute
from lockstep.html.filling import environment, style
from lockstep.html.formatting import span
from lockstep.serve.ages import age_map
from lockstep.serve.calls import Calls
from lockstep.serve.detail import detail, progress
from lockstep.serve.fleet import Asked, fleet, href_of
from lockstep.serve.poller import Poller


class Pages:
    """Makes pages.

    Args:
        lock: Name and region of the lock table, which tells two deployments apart.
    """

    def __init__(self, lock: str) -> None:
        self._lock = lock
        self._templates = environment("lockstep.serve")
        self._templates.filters["href"] = href_of

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
        return self._templates.get_template("credential.html.j2").render(
            d=detail(poller.latest.seen[credential_id], now), **self._frame(poller, calls, now)
        )

    def _frame(self, poller: Poller, calls: Calls, now: datetime) -> dict[str, object]:
        look = poller.latest
        return {
            "lock": self._lock,
            "version": __version__,
            "problem": look.problem,
            "steps_problem": look.steps_problem,
            "looked": absolute(look.at, now),
            "old": span(now - look.at),
            "every": round(poller.seconds),
            "calls": calls.last_minute,
        }
