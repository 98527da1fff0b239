"""A quota, and what a plan needs of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from math import ceil, floor

from lockstep.plan import Plan
from lockstep.stack_names import DEFAULT_STACK

NEAR = Fraction(8, 10)
"""From this share of a limit on, a plan is near it."""

SPLIT = "deploy two stacks, with a plan, a lock table and an audit bucket each"


class Verdict(StrEnum):
    """Whether a plan fits into a quota."""

    FITS = "fits"
    NEAR = "near"
    RAISE = "raise it"
    BREAKS = "breaks"
    UNKNOWN = "not published"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A limit of a provider, or of Lockstep itself.

    Attributes:
        name: What is limited.
        limit: The most that is allowed; None: the provider does not publish it.
        unit: Of the limit.
        source: Where the provider says so.
        change: What to do where a plan needs more.
        adjustable: Whether the provider raises it on request.
    """

    name: str
    limit: int | None
    unit: str
    source: str
    change: str
    adjustable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a plan needs of a quota.

    Attributes:
        quota: The limit.
        need: What the plan needs, in the quota's unit.
        each: What one more of `per` adds; 0: it does not grow.
        per: What it grows with.
        count: How many of `per` the plan has.
        exact: Whether `breaks_at` is: a larger plan has more shards, in other minutes.
    """

    quota: Quota
    need: Fraction
    each: Fraction = Fraction(0)
    per: str = "credentials"
    count: int = 0
    exact: bool = True

    @property
    def is_told(self) -> bool:
        """Whether a person should know of it unasked."""
        return self.verdict not in {Verdict.FITS, Verdict.UNKNOWN}

    def limited(self, limit: int) -> "Use":
        """The same by the limit of an account, which may have been raised, or be lower as that of new accounts is."""
        return replace(self, quota=replace(self.quota, limit=limit))

    @property
    def breaks_at(self) -> int | None:
        """The smallest number of `per` with which the limit is exceeded; None where it is not by that."""
        if not self.each or self.quota.limit is None:
            return None
        fixed = self.need - self.each * self.count
        return max(0, floor((self.quota.limit - fixed) / self.each) + 1)

    @property
    def verdict(self) -> Verdict:
        """Whether the plan fits."""
        if self.quota.limit is None:
            return Verdict.UNKNOWN
        if self.need > self.quota.limit:
            return Verdict.RAISE if self.quota.adjustable else Verdict.BREAKS
        return Verdict.NEAR if self.need >= NEAR * self.quota.limit else Verdict.FITS

    def __str__(self) -> str:
        quota = self.quota
        if quota.limit is None:
            return f"{quota.name}: {_number(self.need)} {quota.unit}; no limit is published; {quota.change}"
        text = f"{quota.name}: {_number(self.need)} of {quota.limit:,} {quota.unit}"
        if self.breaks_at is not None:
            about = "" if self.exact else "about "
            text += f"; more than allowed from {about}{self.breaks_at:,} {self.per} on"
        return text if self.verdict is Verdict.FITS else f"{text}; {quota.change}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What `cdk.json` says and a plan does not.

    Attributes:
        stack: The prefix of all names.
        tags: Tags of every resource, beside Lockstep's own.
        adopts_secret: Whether the stack makes no secret of this name, since it exists.
        keys: How many other keys encrypt adopted secrets or the adopted table.
        plan_text: The plan file; None: not known.
    """

    stack: str = DEFAULT_STACK
    tags: Mapping[str, str] = field(default_factory=dict)
    adopts_secret: Callable[[str], bool] = lambda _name: False
    keys: int = 0
    plan_text: str | None = None


def grows(plan: Plan, quota: Quota, *, total: Fraction | int, fixed: int = 0) -> Use:
    """What grows with the credentials."""
    count = len(plan.credential_sections)
    return Use(quota=quota, need=Fraction(total), each=Fraction(total - fixed) / count, count=count)


def _number(value: Fraction) -> str:
    return f"{ceil(value):,}" if value >= 10 or value.denominator == 1 else f"{float(value):.1f}"  # noqa: PLR2004 - two digits
