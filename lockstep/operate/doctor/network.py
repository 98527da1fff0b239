"""How far a server is from here: its name, its port, its certificate.

The places from which is asked.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from lockstep.databases.findings import Answer, failed, not_asked, passed, warning
from lockstep.databases.tls import TlsProbe, TlsProblem
from lockstep.protocol.model import DatabaseServer

HERE = "here"
"""This machine, in findings."""
ASK_DATABASES = frozenset({"aws/apply_db", "oci/rotate"})
"""The functions that look at databases, and show them logins."""


# How far a server is from here: its name, its port, its certificate.

CONNECT_SECONDS = 3.0
"""For each address."""
MOST_ADDRESSES = 4
SOON = timedelta(days=30)
"""A certificate that ends earlier is a warning."""

_INSIDE = "lockstep doctor --in-cloud"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a look at a server has come to.

    Attributes:
        addresses: To which its name resolves.
        is_open: Whether one of them took a connection.
    """

    name: Answer
    route: Answer | None = None
    addresses: tuple[str, ...] = ()
    is_open: bool = False


def reach(server: DatabaseServer, where: str) -> Reached:
    """Resolve a server's name, and open a connection to its port.

    Args:
        server: The server, or a verify host.
        where: The place from which is asked.
    """
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Reached(name=_unresolved(server, where, error))
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    kind = ", a private address" if _are_private(addresses) else ""
    name = passed(server.name, f"{server.host} is {', '.join(addresses[:MOST_ADDRESSES])}{kind}")
    problem: OSError | None = None
    for address in addresses[:MOST_ADDRESSES]:
        try:
            socket.create_connection((address, server.port), CONNECT_SECONDS).close()
        except OSError as error:
            problem = error
        else:
            route = passed(server.name, f"port {server.port} of {address} takes connections")
            return Reached(name=name, route=route, addresses=addresses, is_open=True)
    return Reached(name=name, route=_closed(server, where, addresses, problem), addresses=addresses)


def _unresolved(server: DatabaseServer, where: str, error: OSError | UnicodeError) -> Answer:
    why = (
        "the resolver does not answer"
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        else "there is no such name"
    )
    says = f"{server.host} does not resolve from {where}: {why}"
    if where == HERE:
        # As it is for a private name, by which runs reach it all the same.
        return not_asked(server.name, f"{says}, at least here", f"{_INSIDE}; or correct `host` in the plan")
    return failed(server.name, says, f"{_RESOLVE[where.partition('/')[0]]}; or correct `host` in the plan")


_RESOLVE = {
    "aws": "let the functions' VPC resolve it (aws route53 associate-vpc-with-hosted-zone, enableDnsSupport)",
    "oci": "let the VCN of the function resolve it: a private view or a forwarding endpoint of its resolver",
}
_LET_IN = {
    "aws": "let the functions' group in: aws ec2 authorize-security-group-ingress --protocol tcp --port {port}",
    "oci": "let the function's subnet in: an ingress rule for TCP {port} in the server's security list or group",
}


def _closed(server: DatabaseServer, where: str, addresses: Sequence[str], problem: OSError | None) -> Answer:
    place = f"port {server.port} of {', '.join(addresses[:MOST_ADDRESSES])}"
    if isinstance(problem, ConnectionRefusedError):
        return failed(
            server.name,
            f"{place} refuses connections: nothing listens there, or a firewall rejects them",
            "start the server, let it listen on that address (bind_address, listen_addresses), or correct `port` in "
            "the plan",
        )
    if where == HERE and _are_private(addresses):
        says = f"{place} cannot be reached from here, as it is in a private network"
        return not_asked(server.name, says, _INSIDE)
    why = (
        f"does not answer within {CONNECT_SECONDS:.0f} s: a security group, a network list or a firewall drops packets"
        if isinstance(problem, TimeoutError)
        else f"has no route ({type(problem).__name__})"
    )
    let_in = _LET_IN.get(where.partition("/")[0], f"let this machine in, or: {_INSIDE}")
    return failed(server.name, f"{place} {why}", let_in.format(port=server.port))


def _are_private(addresses: Sequence[str]) -> bool:
    # A zone, as in fe80::1%eth0, is of this machine only.
    parsed = [ip_address(address.partition("%")[0]) for address in addresses]
    return bool(parsed) and all(a.is_private and not a.is_loopback for a in parsed)


def of_certificate(server: DatabaseServer, shaken: TlsProbe, now: datetime) -> Answer:
    """What a handshake says.

    Args:
        server: The server, or a verify host.
        shaken: The handshake.
        now: To compare the end of the certificate with.
    """
    ca = str(server.tls.ca_file) if server.tls and server.tls.ca_file else None
    match shaken.flaw:
        case TlsProblem.NO_TLS:
            return failed(
                server.name,
                "the server offers no TLS, so no password is shown to it",
                "switch TLS on there (MySQL and MariaDB: ssl_cert, ssl_key; PostgreSQL: ssl = on)",
            )
        case TlsProblem.NAME:
            names = ", ".join(shaken.names) or "another name"
            return failed(
                server.name,
                f"its certificate is for {names}, not for {server.host}",
                "name the server in the plan as its certificate does, or issue one for that name",
            )
        case TlsProblem.EXPIRED | TlsProblem.NOT_YET:
            when = "has expired" if shaken.flaw is TlsProblem.EXPIRED else "is not valid yet"
            return failed(
                server.name,
                f"its certificate, or the CA's, {when} by the clock of this place",
                "renew it, and look at the clock of this place: date -u",
            )
        case TlsProblem.UNKNOWN_CA:
            known = f"the CAs in {ca}" if ca else "the CAs of this system"
            return failed(
                server.name,
                f"{known} have not signed its certificate",
                "put its CA into the file that `tls.ca_file` in the plan names; RDS: "
                "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
            )
        case TlsProblem.PROTOCOL:
            return failed(
                server.name,
                "its TLS is older than 1.2, or broken",
                "let the server speak TLS 1.2 or newer (tls_version, ssl_min_protocol_version)",
            )
    return _in_time(server, shaken, ca, now)


def _in_time(server: DatabaseServer, shaken: TlsProbe, ca: str | None, now: datetime) -> Answer:
    until = shaken.expires_at
    if until and until - now < SOON:
        return warning(
            server.name,
            f"its certificate expires on {until:%Y-%m-%d}, in {(until - now).days} days",
            "renew it on the server; RDS does when its CA is current: aws rds describe-db-instances",
        )
    valid = f" until {until:%Y-%m-%d}" if until else ""
    return passed(server.name, f"{shaken.version}, verified by {ca or 'the CAs of this system'}{valid}")


def without_ca(server: DatabaseServer) -> Answer | None:
    """Where the CA file of the plan is not in this place; None where it is."""
    ca_file = server.tls.ca_file if server.tls else None
    if ca_file is None or ca_file.is_file():
        return None
    return failed(
        server.name,
        f"there is no CA file {ca_file}, so no certificate can be verified",
        "correct `tls.ca_file` in the plan; a function has the files that were beside the plan when it was built",
    )


def without_tls(server: DatabaseServer) -> Answer:
    """Where the plan says `plaintext`."""
    return passed(server.name, "not asked for: the plan allows plaintext, in as many words")
