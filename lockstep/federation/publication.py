"""Which keys an issuer's key set is to name. No cloud is asked here."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

VERIFIERS_FORGET = timedelta(hours=24)
"""Verifiers read the key set again within this time. AWS does not say how long STS keeps one, and no version is in a
hurry: the old one signs meanwhile."""
RETIRE_AFTER = timedelta(hours=1)
"""So long after no function has a version any more, it is out of use: a token lives 5 minutes, its session 15."""


class Version(Protocol):
    """A version of the key."""

    @property
    def id(self) -> str:
        """Its OCID."""

    @property
    def is_enabled(self) -> bool:
        """Whether it signs."""

    @property
    def made_at(self) -> datetime:
        """When it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What the key set is to name.

    Attributes:
        trusted: The versions whose tokens are taken, the newest first.
        dropped: Versions of the key that were published, and are not any more.
    """

    trusted: Sequence[str]
    dropped: Sequence[str]


def successor(versions: Sequence[Version], named: str) -> str | None:
    """The version that is to sign after the one that the plan names; None: it is yet to be made.

    A version that was made for that before and is not in the plan yet is taken again, so that a repeated or
    interrupted rotation makes no second one.
    """
    made_at = {version.id: version.made_at for version in versions}
    newer = [v for v in versions if v.is_enabled and v.made_at > made_at[named]]
    return max(newer, key=lambda v: v.made_at).id if newer else None


def publication(
    versions: Sequence[Version],
    *,
    named: str,
    published: AbstractSet[str],
    more: AbstractSet[str] = frozenset(),
    retired: AbstractSet[str] = frozenset(),
) -> Publication:
    """What the key set is to name: the version of the plan, `more`, and what it names already and still signs.

    A version that was taken out does not come back by itself, so the key set itself says what is trusted.

    Args:
        versions: Of the key.
        named: The version that the plan names.
        published: The versions that the key set names now.
        more: Versions that are to be added.
        retired: Versions that are to be taken out.
    """
    enabled: Mapping[str, datetime] = {v.id: v.made_at for v in versions if v.is_enabled}
    wanted = ({named} | more | published) & enabled.keys() - (retired - {named})
    ours = {version.id for version in versions}
    return Publication(
        trusted=sorted(wanted, key=lambda kid: (enabled[kid], kid), reverse=True),
        dropped=sorted((published & ours) - wanted),
    )
