"""Every quota of both clouds that a deployment of a plan meets: what it needs, and at which size of the plan it breaks.

What grows with the credentials is taken to grow evenly: a larger plan has more credentials like those that it has. A
quota that the provider raises on request is a warning where the plan needs more, since an account may have it raised;
any other is an error. The numbers are for an account in which nothing else is.
"""

import re
from collections.abc import Iterator

from lockstep.plan import Plan
from lockstep.plan_file import MAX_PLAN_CHARACTERS
from lockstep.quotas.aws import of_aws
from lockstep.quotas.base import SPLIT, Estate, Quota, Use, Verdict, grows
from lockstep.quotas.oci import of_oci

__all__ = ["Estate", "Quota", "Use", "Verdict", "broken", "uses"]

_CREDENTIALS = re.compile(r"^credentials:.*?(?=^[A-Za-z]|\Z)", re.MULTILINE | re.DOTALL)
"""The section of a plan file in block style."""


def uses(plan: Plan, estate: Estate) -> list[Use]:
    """What the plan needs of every quota that its deployment meets."""
    return [*_of_lockstep(plan, estate), *of_aws(plan, estate), *of_oci(plan)]


def broken(found: list[Use]) -> list[Use]:
    """Those that no request raises."""
    return [use for use in found if use.verdict is Verdict.BREAKS]


def _of_lockstep(plan: Plan, estate: Estate) -> Iterator[Use]:
    if estate.plan_text is not None:
        credentials = _CREDENTIALS.search(estate.plan_text)
        size = len(estate.plan_text)
        yield grows(
            plan,
            Quota(
                name="Lockstep, plan file",
                limit=MAX_PLAN_CHARACTERS,
                unit="characters",
                source="lockstep/plan_file.py",
                change=SPLIT,
            ),
            total=size,
            fixed=size - len(credentials[0]) if credentials else 0,
        )
