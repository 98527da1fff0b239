"""How old the long-lived keys are by which the runners reach the other cloud. No value is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from lockstep.cli.output import say
from lockstep.cli.times import moment_or_none
from lockstep.clouds import Clouds
from lockstep.environment import line_of, told
from lockstep.errors import LockstepError, SecretNotFoundError
from lockstep.plan import Plan
from lockstep.runner_keys import KEY_AGE
from lockstep.store_kinds.oci_names import oci_name


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAge:
    """The age of a key.

    Attributes:
        place: Where the plan names it.
        secret: The secret that has it.
        since: When the secret got it, or why that is not known.
    """

    place: str
    secret: str
    since: datetime | LockstepError

    @property
    def runner(self) -> str:
        """Whose key it is: `aws` or `oci`."""
        return self.place.split(".")[1]

    def days(self, now: datetime) -> int | None:
        """How old it is, in whole days; None where that is not known."""
        return None if isinstance(self.since, LockstepError) else (now - self.since).days

    def is_old(self, now: datetime) -> bool:
        """Whether it is to be replaced."""
        return not isinstance(self.since, LockstepError) and now - self.since >= KEY_AGE

    def document(self, now: datetime) -> dict[str, Any]:
        """For other programs; `lockstep.cli.documents` has its fields."""
        error = self.since if isinstance(self.since, LockstepError) else None
        return {
            "runner": self.runner,
            "key": self.place,
            "secret": self.secret,
            "since": moment_or_none(None if isinstance(self.since, LockstepError) else self.since),
            "age_days": self.days(now),
            "old": self.is_old(now),
            "error": type(told(error)).__name__ if error else None,
        }


def ages(plan: Plan, clouds: Clouds) -> Sequence[KeyAge]:
    """The ages of all keys of the plan. What cannot be had is told with its error, and stops nothing."""
    keys = dict.fromkeys(plan.runners.keys)
    return list(clouds.side_by_side([partial(_age, plan, clouds, place, secret) for place, secret in keys]))


def show(plan: Plan, keys: Sequence[KeyAge], now: datetime) -> None:
    """Show them; of a plan without keys that it needs none."""
    for line, style in _lines(plan, keys, now):
        say(line, style=style)


def _lines(plan: Plan, keys: Sequence[KeyAge], now: datetime) -> Iterator[tuple[str, str]]:
    for key in keys:
        what = f"key of runner {key.runner}: {key.secret}"
        if isinstance(key.since, LockstepError):
            yield f"{what}, age not known; {line_of(key.since)}", "yellow"
            continue
        mend = f"; replace it: lockstep identity rotate-key {key.runner}" if _is_replaced(key) else ""
        old = key.is_old(now)
        yield f"{what}, {key.days(now)} days old{mend if old else ''}", "yellow" if old else ""
    if not keys and (plan.compiled.to_oci or plan.compiled.to_aws):
        yield "no long-lived key", ""


def _is_replaced(key: KeyAge) -> bool:
    """Whether a command replaces it: the client secret of a domain's application is made in its console."""
    return "federation" not in key.place


def _age(plan: Plan, clouds: Clouds, place: str, secret: str) -> KeyAge:
    cloud = "oci" if place.startswith("runners.oci.") else "aws"
    name = oci_name(secret) if cloud == "oci" else secret
    try:
        since = _in_oci(plan, clouds, name) if cloud == "oci" else _in_aws(plan, clouds, name)
    except LockstepError as error:
        return KeyAge(place=place, secret=name, since=error)
    return KeyAge(place=place, secret=name, since=since or SecretNotFoundError(store=cloud, secret=name))


def _in_aws(plan: Plan, clouds: Clouds, secret: str) -> datetime | None:
    from lockstep.aws.key_age import stored_at  # noqa: PLC0415 - loaded where it is needed

    return stored_at(clouds.aws("secretsmanager", plan.compiled.region_of(secret)), secret)


def _in_oci(plan: Plan, clouds: Clouds, secret: str) -> datetime | None:
    from lockstep.oci.vault import Vault  # noqa: PLC0415 - the extra may be missing

    config = plan.compiled.vault
    if config is None:
        return None
    vault = Vault(
        clouds.oci(config.region),
        compartment_id=config.compartment_of_own_secrets,
        vault_id=config.vault_id,
        store=config.name,
    )
    secret_id = vault.secret_id(secret)
    versions = vault.versions(secret, secret_id) if secret_id else ()
    return next((version.time_created for version in versions if "CURRENT" in version.stages), None)
