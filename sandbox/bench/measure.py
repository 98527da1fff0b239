"""Measures everything, one estate after the other, and puts the figures together."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lockstep.protocol.model import Credential, Strategy
from sandbox import plans
from sandbox.bench.budget import FUNCTION, LARGE, MACHINE, PEER, SMALL
from sandbox.bench.peer import SECRET, at_boundaries, back_to_back, running_peer
from sandbox.bench.rounds import Network, by_function, by_machine, measured
from sandbox.emulators.databases import CertificateAuthority
from sandbox.estate import Estate, Settings, running_estate, temporary_folder
from sandbox.fn import running_function
from sandbox.servers import default_servers

Say = Callable[[str], None]
Figures = dict[str, Any]


REPETITIONS = 5
"""Of each rotation, at each latency."""
BACK_TO_BACK = 20
"""Rotations while an application logs in."""


def measure(peer: Path | None, say: Say) -> Figures:
    """All figures, as they are printed."""
    with temporary_folder() as name:
        folder = Path(name)
        found = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            **small(peer, folder, say),
            **_large(folder, say),
        }
    at_50 = [found[size][MACHINE]["wall_ms"]["50"] for size in (LARGE, SMALL)]
    return {**found, "2x2 over 1x1": round(at_50[0] / at_50[1], 2)}


def small(
    peer: Path | None, folder: Path, say: Say, *, repetitions: int = REPETITIONS, times: int = BACK_TO_BACK
) -> Figures:
    """One MariaDB and one store, in AWS; beside it AWS's sample function, from a checkout, if there is one."""
    with _estate(folder, ("orders",), Strategy.DUAL_PASSWORD, Settings(clouds=("aws",)), say) as found:
        estate, network, credential = found
        secrets, runners = {MACHINE: credential.secret_names.app_user}, {MACHINE: by_machine(*found)}
        with ExitStack() as stack:
            if peer:
                other = stack.enter_context(running_peer(peer, estate, network, estate.servers["orders"]))
                secrets[PEER], runners[PEER] = SECRET, other
            done = measured(runners, repetitions=repetitions, say=say)
            for name, rotate in runners.items():
                say(f"logins with {secrets[name]}")
                looked_at = (rotate, estate, secrets[name], credential.servers)
                done[name]["boundaries"] = at_boundaries(*looked_at)
                done[name]["back to back"] = back_to_back(*looked_at, times=times)
    return {SMALL: done}


def _large(folder: Path, say: Say) -> Figures:
    """Two databases, and a second store in OCI with a ring of four."""
    with (
        _estate(folder, ("orders", "ledger"), Strategy.ALTERNATING_USERS, Settings(), say) as found,
        running_function(found[0].function_environment) as running,
    ):
        runners = {MACHINE: by_machine(*found), FUNCTION: by_function(*found, running)}
        return {LARGE: measured(runners, repetitions=REPETITIONS, say=say)}


@contextmanager
def _estate(
    folder: Path, names: tuple[str, ...], strategy: Strategy, settings: Settings, say: Say
) -> Iterator[tuple[Estate, Network, Credential]]:
    say(f"an estate with {len(names)} database(s) and {len(settings.clouds)} store(s)")
    there = default_servers(CertificateAuthority(folder))
    if missing := [name for name in names if name not in there]:
        raise RuntimeError(f"this machine cannot start: {', '.join(missing)}")
    servers = {name: there[name] for name in names}
    document = plans.credential("bench/app", *servers, username="app_user", strategy=strategy)
    with running_estate([document], servers, folder=folder, settings=settings) as estate:
        [credential] = estate.plan.credentials
        say(", ".join(f"{server.product} {server.version}" for server in servers.values()))
        yield estate, Network(estate.aws, estate.oci), credential
