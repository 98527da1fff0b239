"""How what happens in the model is told to people."""

from lockstep.model import Claim
from tests.proof.model_world import Login, Reply, Value


def told(login: Login) -> str:
    """A login, by who made it: a run, an invocation that was tried again has a stroke."""
    if len(login.password) == 1:
        return f"the login of generation {login.password[0]}" if login.password[0] else "a typing error"
    if not login.password:
        return "a login that nobody knows"
    generation, run, twin, attempt = login.password
    return f"login {generation} of run {run}" + "'" * (twin + attempt)


def short(value: Reply) -> str:
    """What a call takes or answers."""
    match value:
        case None:
            return ""
        case Login():
            return told(value)
        case Value():
            return f"generation {value.generation}, {told(value.login)}"
        case Claim():
            return f"{value.kind.value} {value.generation} on {value.base_generation}"
        case tuple():
            return "(" + ", ".join(short(v) or "-" for v in value) + ")"
    return value.__name__ if isinstance(value, type) else str(value)
