"""Measures everything, one estate after the other, and puts the figures together."""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from lockstep.protocol.model import Credential, Strategy
from sandbox import plans
from sandbox.bench.budget import FUNCTION, LARGE, MACHINE, SMALL
from sandbox.bench.lockout import BACK_TO_BACK, RotateWatched, at_boundaries, back_to_back
from sandbox.bench.network import Network
from sandbox.bench.peer import Peer, current_value, running_peer
from sandbox.bench.rounds import Rotate, figures, rotations
from sandbox.bench.runners import by_machine, function, machine
from sandbox.bench.starts import Bundles, build_bundles, function_start, imports
from sandbox.emulators.databases import CertificateAuthority, DatabaseServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import running_function
from sandbox.servers import default_servers

PEER = "peer"
Say = Callable[[str], None]
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How often things are measured.

    Attributes:
        repetitions: Of each rotation, at each latency.
        tries: Of each start.
        back_to_back: Rotations while an application logs in.
        bundles: Whether the bundles are built.
    """

    repetitions: int = 5
    tries: int = 5
    back_to_back: int = BACK_TO_BACK
    bundles: bool = True


FULL = Depth()
QUICK = Depth(repetitions=2, tries=3, back_to_back=5, bundles=False)


def measure(depth: Depth, peer: Path | None, say: Say) -> Figures:
    """All figures, as they are printed."""
    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # A server that drops root's rights must be able to enter.
        bundles = build_bundles(folder / "bundles", say=say) if depth.bundles else None
        found = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": _this_machine(),
            **small(depth, peer, folder, say),
            **_large(depth, folder, bundles, say),
        }
        if bundles:
            say("imports")
            found["starts"] |= {
                "imports": imports(bundles.aws, tries=depth.tries),
                "bundles": bundles.figures,
            }
    return {**found, "ratios": _ratios(found)}


def small(depth: Depth, peer: Path | None, folder: Path, say: Say) -> Figures:
    """One MariaDB and one store, in AWS; beside it the peer, if there is one."""
    with _estate(folder, ("orders",), Strategy.DUAL_PASSWORD, Settings(clouds=("aws",)), say) as found:
        estate, network, credential = found
        with ExitStack() as stack:
            runners = {MACHINE: machine(estate, network, credential)}
            other = None
            if peer:
                other = stack.enter_context(running_peer(peer, estate, network, estate.servers["orders"]))
                runners[PEER] = other.rotate
            done = _rotated(runners, depth, say)
            done[MACHINE]["databases"] = _databases(estate)
            result = {SMALL: {MACHINE: done[MACHINE], **_lockout(estate, network, credential, depth, say)}}
            if other:
                result[PEER] = done[PEER] | _lockout_of_peer(estate, credential, other, depth, say)
            return result


def _large(depth: Depth, folder: Path, bundles: Bundles | None, say: Say) -> Figures:
    """Two databases, and a second store in OCI with a ring of four."""
    with _estate(folder, ("orders", "ledger"), Strategy.ALTERNATING_USERS, Settings(), say) as found:
        estate, network, credential = found
        with running_function(estate.function_environment) as running:
            runners = {
                MACHINE: machine(estate, network, credential),
                FUNCTION: function(estate, network, running, credential),
            }
            done = _rotated(runners, depth, say)
        done[MACHINE]["databases"] = _databases(estate)
        say("the start of the OCI function")
        content = bundles.oci if bundles else None
        start = function_start(content, estate.function_environment, credential.id, tries=depth.tries)
        return {LARGE: done, "starts": {"function": start}}


@contextmanager
def _estate(
    folder: Path, names: tuple[str, ...], strategy: Strategy, settings: Settings, say: Say
) -> Iterator[tuple[Estate, Network, Credential]]:
    say(f"an estate with {len(names)} database(s) and {len(settings.clouds)} store(s)")
    servers = _servers(folder, names)
    document = plans.credential("bench/app", *servers, username="app_user", strategy=strategy)
    with running_estate([document], servers, folder=folder, settings=settings) as estate:
        [credential] = estate.plan.credentials
        yield estate, Network(estate.aws, estate.oci), credential


def _servers(folder: Path, names: tuple[str, ...]) -> dict[str, DatabaseServer]:
    there = default_servers(CertificateAuthority(folder))
    if missing := [name for name in names if name not in there]:
        raise RuntimeError(f"this machine cannot start: {', '.join(missing)}")
    return {name: there[name] for name in names}


def _rotated(runners: Mapping[str, Rotate], depth: Depth, say: Say) -> dict[str, Figures]:
    found = rotations(runners, repetitions=depth.repetitions, say=say)
    return {name: figures(by_latency) for name, by_latency in found.items()}


def _lockout(estate: Estate, network: Network, credential: Credential, depth: Depth, say: Say) -> Figures:
    def watched(latency_ms: float, at_boundary: Callable[[], None]) -> Any:  # noqa: ANN401 - see RotateWatched
        return by_machine(estate, network, credential, latency_ms, at_boundary=at_boundary)

    secret = credential.secret_names.app_user
    return _logins(watched, machine(estate, network, credential), estate, credential, secret, depth, say)


def _lockout_of_peer(estate: Estate, credential: Credential, peer: Peer, depth: Depth, say: Say) -> Figures:
    def watched(latency_ms: float, at_boundary: Callable[[], None]) -> Any:  # noqa: ANN401 - see RotateWatched
        return peer.rotate(latency_ms, at_boundary=at_boundary)

    return _logins(watched, peer.rotate, estate, credential, peer.secret, depth, say)


def _logins(
    watched: RotateWatched,
    rotate: Rotate,
    estate: Estate,
    credential: Credential,
    secret: str,
    depth: Depth,
    say: Say,
) -> Figures:
    """Connections to the database, and both ways to look for a lockout.

    Args:
        watched: Rotates and tells of its boundaries.
        rotate: Rotates.
        estate: Where.
        credential: Its databases are logged in to.
        secret: What applications read.
        depth: How often.
        say: Shows progress.
    """
    say(f"logins with {secret}")
    current = partial(current_value, estate, secret)
    return {
        "connections": _connections(estate.servers["orders"], rotate),
        "boundaries": at_boundaries(watched, current, credential.servers),
        "back to back": back_to_back(rotate, estate, secret, credential.servers, times=depth.back_to_back),
    }


def _connections(server: DatabaseServer, rotate: Rotate) -> int:
    """How many connections to a MariaDB a rotation opens."""
    opened = "SHOW GLOBAL STATUS LIKE 'Connections'"
    [(_, before)] = server.execute_as_superuser(opened)
    rotate(0)
    [(_, after)] = server.execute_as_superuser(opened)
    return int(after) - int(before) - 1  # The last one is that of the question.


def _databases(estate: Estate) -> list[str]:
    return [f"{server.product} {server.version}" for server in estate.servers.values()]


def _this_machine() -> Figures:
    return {
        "processors": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
    }


def _ratios(found: Figures) -> Figures:
    small_one, large_one = found[SMALL][MACHINE], found[LARGE][MACHINE]
    ratios: Figures = {"2x2 over 1x1": _over(large_one["wall_ms"], small_one["wall_ms"])["50"]}
    if PEER in found:
        peer = found[PEER]["functions_ms"]
        ratios["machine over the peer"] = _over(small_one["wall_ms"], peer)
        ratios["functions over the peer"] = _over(small_one["functions_ms"], peer)
    return ratios


def _over(these: Mapping[str, int], those: Mapping[str, int]) -> dict[str, float]:
    return {latency: round(these[latency] / those[latency], 2) for latency in these}
