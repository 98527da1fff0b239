"""A check, and how a choice of checks is run: groups side by side, each in its order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING

from lockstep.aws.reads import AwsReads
from lockstep.databases.findings import HERE, Finding, Outcome, not_asked
from lockstep.operate.doctor.servers import Databases, unanswered
from lockstep.plan.fields import near, with_hint
from lockstep.plan.model import Plan
from lockstep.plan.stores import OciVault
from lockstep.protocol.errors import Environment, EnvironmentalError, LockstepError, UnexpectedError
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.runtime.clouds import Clouds

if TYPE_CHECKING:
    from lockstep.oci.reads import OciReads


@dataclass(kw_only=True)
class Context:
    """What a check may ask: the plan and both clouds, as one identity reaches them from one place.

    Attributes:
        plan: The plan.
        clouds: Its ports, as the identity of this place opens them.
        stack: The prefix of all names in AWS.
        name: That of all names in OCI: `name` of Terraform.
    """

    plan: Plan
    clouds: Clouds
    stack: str = DEFAULT_STACK
    name: str = DEFAULT_STACK

    @cached_property
    def aws(self) -> AwsReads:
        """Reads of AWS, in the region of the lock table unless told otherwise."""
        return AwsReads(self.clouds.aws, self.plan.lock.region)

    @cached_property
    def oci(self) -> "OciReads":
        """Reads of OCI, in the region of the plan's store there."""
        try:
            from lockstep.oci.reads import OciReads  # noqa: PLC0415 - the SDK is an extra
        except ModuleNotFoundError:
            raise EnvironmentalError(Environment.OCI_EXTRA_MISSING) from None
        return OciReads(self.clouds.oci)

    @cached_property
    def databases(self) -> Databases:
        """The databases of the plan, each looked at once."""
        return Databases(self.plan.compiled.credentials, self.clouds, where=HERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question, of as many subjects as the plan has.

    Attributes:
        id: The group and a name in it, such as `aws.secrets`.
        looks_at: What is looked at.
        means: What a failure means.
        ask: Gives the findings; none where it is no question for the plan. It may raise a LockstepError, which becomes
            one too. None: the look at the databases gives them, or the functions do.
    """

    id: str
    looks_at: str
    means: str
    ask: Callable[[Context], Iterable[Finding]] | None = None

    @property
    def group(self) -> str:
        """The group of its id."""
        return self.id.partition(".")[0]


_NEEDED = frozenset({"aws.identity", "oci.identity"})
"""Where it is not known who asks, or the wrong one does, nothing else of the group has a meaning."""


def unknown_word(catalogue: Sequence[Check], words: Sequence[str]) -> str | None:
    """What is wrong with the first word that is neither the id of a check nor a group; None: nothing is."""
    groups = dict.fromkeys(check.group for check in catalogue)
    known = {*groups, *(check.id for check in catalogue)}
    wrong = next((word for word in words if word not in known), None)
    text = f"there is no check {wrong!r}; the groups are {', '.join(groups)}"
    return with_hint(text, near(wrong, known)) if wrong else None


def chosen(catalogue: Sequence[Check], plan: Plan, *, only: Sequence[str] = ()) -> list[Check]:
    """The checks that these words choose, of those that are questions for this plan.

    Args:
        catalogue: All checks.
        plan: The plan.
        only: Ids and groups; none: all.
    """
    asked = [c for c in catalogue if c.group != "oci" or plan.store(OciVault)]
    return [c for c in asked if not only or {c.id, c.group} & set(only)]


def examine(checks: Sequence[Check], context: Context) -> list[Finding]:
    """What the checks find, in their order, which is that of the catalogue. The groups are run side by side."""
    groups = groupby(checks, key=lambda check: check.group)
    found = context.clouds.side_by_side([partial(_group, list(members), context) for _, members in groups])
    return [finding for findings in found for finding in findings]


def _group(checks: Sequence[Check], context: Context) -> list[Finding]:
    findings: list[Finding] = []
    for number, check in enumerate(checks, start=1):
        found = list(_found(check, context))
        findings += found
        if check.id in _NEEDED and any(f.outcome is not Outcome.PASSED for f in found):
            return [*findings, *(not_asked(c.id, "", f"first fix {check.id}") for c in checks[number:])]
    return findings


def _found(check: Check, context: Context) -> Iterator[Finding]:
    """What one check finds; an error of the environment, or of the check, is a finding."""
    try:
        yield from check.ask(context) if check.ask else context.databases.found(check.id)
    except LockstepError as error:
        yield unanswered(check.id, "", error)
    except Exception as error:  # noqa: BLE001 - a check that is wrong must not hide what the others find
        yield unanswered(check.id, "", UnexpectedError(code=type(error).__name__, path=check.id))
