"""What makes two databases one server."""

Server = tuple[str, int]
"""Host and port."""


def server_of(host: str, port: int) -> Server:
    """The server at a host and port. Names that only DNS shows to be the same stay different."""
    plain = host.lower().removesuffix(".")
    return "127.0.0.1" if plain == "localhost" else plain, port
