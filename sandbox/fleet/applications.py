"""The applications of a fleet: one for each database of the sampled credentials, which log in all the time."""

from collections.abc import Sequence
from functools import partial
from itertools import count

from lockstep.client import ClientCredential, CredentialClient
from lockstep.plan.model import Plan
from lockstep.protocol.model import ENGINES, Credential, DatabaseServer, SecretStr
from sandbox.applications import CACHE_SECONDS, Application, Login, by_client, log_in, sources
from sandbox.outside import Outside, StoreName, value_of

PAUSE_SECONDS = 1.0
"""Between two logins of an application: what they take is taken from the rotations."""
_STORES: tuple[StoreName, ...] = ("aws", "oci")


def applications(plan: Plan, outside: Outside, credentials: Sequence[Credential]) -> list[Application]:
    """For each database an application: by `lockstep.client` from one store or the other, or a plain reader."""
    made, found = count(), []
    for credential in credentials:
        for server in credential.servers:
            number = next(made)
            store = _STORES[number % len(_STORES)]
            is_plain = number // len(_STORES) % 2 == 1
            name = f"{credential.id} from {store}{' read plainly' if is_plain else ''} at {server.name}"
            if is_plain:
                application = _plain(name, outside, store, credential, server)
            else:
                client = CredentialClient([sources(plan, credential)[store]], max_age_seconds=CACHE_SECONDS)
                application = by_client(name, client, server)
            application.pause_seconds = PAUSE_SECONDS
            found.append(application)
    return found


def _plain(
    name: str, outside: Outside, store: StoreName, credential: Credential, server: DatabaseServer
) -> Application:
    """An application that knows nothing of Lockstep: it reads the secret with the SDK before each login."""

    def read() -> Login:
        held = outside.serves(store, credential, credential.secret_names.app_user)
        value = value_of(held.text)
        if value is None:
            raise LookupError
        found = ClientCredential(
            username=value.username, password=SecretStr(value.password), generation=held.generation
        )
        return Login(held.generation, partial(log_in, server, found))

    return Application(name, read, ENGINES[server.engine].is_refusal)
