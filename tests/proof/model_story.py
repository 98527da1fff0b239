"""Texts for what happens in the model."""

from lockstep.protocol.model import Claim
from tests.proof.model_world import Login, Reply, Value


def describe(login: Login) -> str:
    """A login, by the run that made it, with a prime for each earlier try."""
    if len(login.password) == 1:
        return f"the login of generation {login.password[0]}" if login.password[0] else "a mistyped password"
    if not login.password:
        return "a random password"
    generation, run, twin, attempt = login.password
    return f"login {generation} of run {run}" + "'" * (twin + attempt)


def short(value: Reply) -> str:
    """An argument or an answer of a call."""
    match value:
        case None:
            return ""
        case Login():
            return describe(value)
        case Value():
            return f"generation {value.generation}, {describe(value.login)}"
        case Claim():
            return f"{value.kind.value} {value.generation} on {value.base_generation}"
        case tuple():
            return "(" + ", ".join(short(v) or "-" for v in value) + ")"
    return value.__name__ if isinstance(value, type) else str(value)
