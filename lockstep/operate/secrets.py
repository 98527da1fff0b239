"""What becomes of each secret of a plan: made, tagged, left alone, or refused. No cloud is asked here.

What a secret holds and says of itself before its first rotation.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from threading import Event, Lock
from typing import Final, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from lockstep.operate import formatting
from lockstep.plan.admins import is_plain_name, secrets_region
from lockstep.plan.model import Plan
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.deadlines import RetryPolicy
from lockstep.protocol.errors import (
    LockstepError,
    RetryableError,
    StoreThrottledError,
    StoreUnreachableError,
    family,
)
from lockstep.protocol.model import AdminSecret
from lockstep.protocol.names import DEFAULT_STACK, SECRET_TAG, STACK_TAG, SecretKind, slot_name
from lockstep.protocol.workers import SideBySide
from lockstep.stores.contents import PLACEHOLDER

FIRST_TEXT: Final = json.dumps({PLACEHOLDER: "the first rotation replaces this"}, separators=(",", ":"))
"""The first content, in both clouds. It is no secret."""
AWS_DESCRIPTION: Final = "Lockstep rotates this secret"
OCI_DESCRIPTION: Final = "A slot of a ring. Lockstep rotates it."


# Which secrets in AWS a stack uses, what their tags must be, and what stands in the way of using them.

ROTATED = (SecretKind.APP_USER, SecretKind.CONNECTION_BLOB)
"""What Lockstep writes. The other kinds it only reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A secret that the plan names, and that the functions know by its tags.

    Attributes:
        region: Where it is.
    """

    name: str
    kind: SecretKind
    region: str

    def tags(self, stack: str) -> Mapping[str, str]:
        """The tags that it must have for a stack."""
        return {STACK_TAG: stack, SECRET_TAG: self.kind.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A secret as it is.

    Attributes:
        key: The id, ARN or alias of its KMS key; None: Secrets Manager's own key of the account.
        is_rotated: Whether Secrets Manager rotates it by itself.
        is_deleted: Whether it is scheduled for deletion.
        primary_region: Where its original is, if it is a replica.
        owning_service: The service that manages it, such as `rds`.
    """

    arn: str
    tags: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    is_rotated: bool = False
    is_deleted: bool = False
    primary_region: str | None = None
    owning_service: str | None = None


_SHARED = {
    SecretKind.ADMIN: "give it in the plan by its ARN, for which no tag is needed",
    SecretKind.RUNNER_KEY: "keep the key in a secret of this stack's own",
    SecretKind.RUNNER_READER_KEY: "keep the key in a secret of this stack's own, beside that of the writer",
    SecretKind.APP_USER: "give this plan's credential secrets of its own",
    SecretKind.CONNECTION_BLOB: "give this plan's credential secrets of its own",
}
"""What to do where two stacks, or two purposes, want one secret."""


class State(StrEnum):
    """What is to be done with a secret."""

    READY = "ready"
    TO_TAG = "to be tagged"
    TO_BE_MADE = "to be made"
    MISSING = "missing"
    IN_THE_WAY = "in the way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A secret of the plan, compared with what is there.

    Attributes:
        problems: What stands in the way; each says what to change.
        missing_tags: The tags that it lacks.
    """

    wanted: Wanted
    found: Found | None
    state: State
    problems: tuple[str, ...] = ()
    missing_tags: Mapping[str, str] = field(default_factory=dict)


def wanted(plan: Plan, credential_id: str | None = None) -> list[Wanted]:
    """Every secret in AWS that the functions know by its tags, each once.

    Args:
        plan: The plan.
        credential_id: Only the secrets of this credential, and those that all need; None: of all.
    """
    return list(dict.fromkeys(_wanted(plan, credential_id)))


def runner_keys(plan: Plan) -> dict[str, SecretKind]:
    """What each secret holds with which the AWS runner proves itself in OCI, by its name."""
    readers = plan.runners.aws.oci_reader_key_secret
    return {
        name: SecretKind.RUNNER_READER_KEY if name == readers else SecretKind.RUNNER_KEY
        for name in plan.runners.aws.secrets.values()
    }


def _wanted(plan: Plan, credential_id: str | None) -> Iterator[Wanted]:
    chosen = [c for c in plan.credentials if credential_id in {None, c.id}]
    store = plan.store(AwsSecretsManager)
    for credential in chosen if store else ():
        names = credential.secret_names
        for name, kind in zip((names.app_user, names.connection_blob), ROTATED, strict=True):
            yield Wanted(name=name, kind=kind, region=store.region if store else "")
    home = secrets_region(plan)
    for server in (server for credential in chosen for server in credential.servers):
        if isinstance(server.admin, AdminSecret) and is_plain_name(server.admin.aws):
            yield Wanted(name=server.admin.aws, kind=SecretKind.ADMIN, region=home)
    for name, kind in runner_keys(plan).items():
        yield Wanted(name=name, kind=kind, region=home)


def judge(one: Wanted, found: Found | None, *, stack: str) -> Judgement:
    """Compare a secret with what is there."""
    if found is None:
        state = State.TO_BE_MADE if one.kind in ROTATED else State.MISSING
        return Judgement(wanted=one, found=None, state=state)
    problems = tuple(_problems(one, found, stack))
    missing = {key: value for key, value in one.tags(stack).items() if key not in found.tags}
    fits = State.TO_TAG if missing else State.READY
    return Judgement(
        wanted=one,
        found=found,
        state=State.IN_THE_WAY if problems else fits,
        problems=problems,
        missing_tags=missing,
    )


def _problems(one: Wanted, found: Found, stack: str) -> Iterator[str]:
    for key, value in one.tags(stack).items():
        if (other := found.tags.get(key, value)) != value:
            yield (
                f"its tag {key} is {other!r}, not {value!r}; if nothing uses it as that any more, remove the tag and "
                f"repeat this, else {_SHARED[one.kind]}"
            )
    if found.is_deleted:
        yield "it is scheduled for deletion; restore it (aws secretsmanager restore-secret)"
    if found.primary_region not in {None, one.region}:
        yield f"it is a replica of a secret in {found.primary_region}, which cannot be written or tagged; name that one"
    if found.owning_service:
        yield (
            f"{found.owning_service} manages it and may change it at any time; give it in the plan by its ARN or its "
            "rds!… name, for which no tag is needed"
        )
    if found.is_rotated and one.kind in ROTATED:
        yield (
            "Secrets Manager rotates it by itself, and only one may; switch that off (aws secretsmanager "
            "cancel-rotate-secret)"
        )


# What becomes of one secret: made, tagged, left alone, or refused. No cloud is asked here.

_PENDING = frozenset({"PENDING_DELETION", "SCHEDULING_DELETION"})
_USABLE = frozenset({"ACTIVE", "CREATING", "UPDATING"})


class Action(StrEnum):
    """What is to be done with a secret."""

    NOTHING = "there"
    MAKE = "to be made"
    TAG = "to be tagged"
    REFUSE = "in the way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a secret.

    Attributes:
        tags: To be set; of a secret that is to be made, all that it gets.
        problems: Why it is refused, or what else is wrong with it, which is not changed.
        command: What a person runs where it is refused.
    """

    name: str
    action: Action
    tags: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackTerms:
    """What the secrets of a stack in AWS get.

    Attributes:
        stack: `stack` in cdk.json.
        key: The ARN of the key.
        tags: `tags` in cdk.json.
    """

    stack: str
    key: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def tags_of(self, one: Wanted) -> Mapping[str, str]:
        """All tags of a secret."""
        return {**self.tags, **one.tags(self.stack)}


def rotated_in_aws(plan: Plan, credential_ids: tuple[str, ...] = ()) -> list[Wanted]:
    """The secrets in AWS of the credentials of a plan.

    Args:
        plan: The plan.
        credential_ids: Of these credentials; none: of all.
    """
    names = set(_names(plan, credential_ids))
    return [one for one in wanted(plan) if one.kind in ROTATED and one.name in names]


def _names(plan: Plan, credential_ids: tuple[str, ...]) -> list[str]:
    """The names of the secrets of credentials, as in the plan."""
    chosen, every = frozenset(credential_ids), not credential_ids
    names = [c.secret_names for c in plan.credentials if every or c.id in chosen]
    return [name for pair in names for name in (pair.app_user, pair.connection_blob)]


def in_aws(one: Wanted, found: Found | None, terms: StackTerms) -> Decision:
    """What becomes of a secret in AWS.

    What people made keeps its tags, and so is of no use to the functions, until they consent with
    `lockstep secrets tag`.

    Args:
        one: What the plan names.
        found: What is there.
        terms: What it gets.
    """
    tags = terms.tags_of(one)
    if found is None:
        return Decision(name=one.name, action=Action.MAKE, tags=tags)
    judged = judge(one, found, stack=terms.stack)
    if judged.problems:
        restore = formatting.aws(one.region, "secretsmanager restore-secret", "--secret-id", one.name)
        return _refused(one.name, *judged.problems, command=restore if found.is_deleted else None)
    if STACK_TAG not in found.tags:
        text = "it exists, and people made it: its value may be in use, and stays; its tags let the functions use it"
        command = formatting.lockstep("secrets", "tag", "--stack", terms.stack, "--yes")
        return _refused(one.name, text, command=command)
    lacking = {key: value for key, value in tags.items() if found.tags.get(key) != value}
    return Decision(
        name=one.name,
        action=Action.TAG if lacking else Action.NOTHING,
        tags=lacking,
        problems=() if _is_key(found.key, terms) else (_other_key(found.key, terms.key),),
    )


def _is_key(found: str | None, terms: StackTerms) -> bool:
    return found in {terms.key, terms.key.rpartition("/")[2], f"alias/{terms.stack}"}


def _other_key(found: str | None, wanted_key: str) -> str:
    return (
        f"its key is {found or 'that of Secrets Manager'}, not the stack's {wanted_key}; it stays; the functions may "
        "use it where adopt.keys of cdk.json names it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSlot:
    """A secret in OCI as it is.

    Attributes:
        id: Its OCID.
        compartment_id: Where it is.
        lifecycle: Its lifecycle state.
        key_id: The OCID of its key.
    """

    id: str
    compartment_id: str
    lifecycle: str
    key_id: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it is there, and stays."""
        return self.lifecycle in _USABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class RingTerms:
    """What each slot in OCI gets: the output `secrets` of Terraform.

    Attributes:
        region: Of the vault.
        compartment_id: Of the rings.
        vault_id: Of the plan's vault.
        key_id: The key that encrypts the slots.
        freeform_tags: Those of Terraform.
        defined_tags: Likewise, by `Namespace.Key`.
    """

    region: str
    compartment_id: str
    vault_id: str
    key_id: str
    freeform_tags: Mapping[str, str]
    defined_tags: Mapping[str, str] = field(default_factory=dict)


def slots_in_oci(plan: Plan, credential_ids: tuple[str, ...] = ()) -> list[str]:
    """The names of the slots of a plan; arguments as of `rotated_in_aws`."""
    return list(
        dict.fromkeys(slot_name(name, i) for name in _names(plan, credential_ids) for i in range(plan.slots))
    )


def in_oci(name: str, found: FoundSlot | None, terms: RingTerms) -> Decision:
    """What becomes of a slot in OCI. One that exists stays as it is."""
    if found is None or found.lifecycle == "DELETED":
        return Decision(name=name, action=Action.MAKE, tags=terms.freeform_tags)
    if found.compartment_id != terms.compartment_id:
        move = formatting.oci(
            terms.region,
            "vault secret change-compartment",
            *("--secret-id", found.id, "--compartment-id", terms.compartment_id),
        )
        text = f"it is in the compartment {found.compartment_id}, not in that of the rings"
        return _refused(name, text, command=move)
    if found.lifecycle in _PENDING:
        cancel = formatting.oci(terms.region, "vault secret cancel-secret-deletion", "--secret-id", found.id)
        return _refused(name, "it is scheduled for deletion; restore it", command=cancel)
    if not found.is_usable:
        see = formatting.oci(terms.region, "vault secret get", "--secret-id", found.id)
        return _refused(name, f"it is {found.lifecycle}", command=see)
    other = found.key_id not in {None, terms.key_id}
    text = f"its key is {found.key_id}, not Terraform's {terms.key_id}; it stays"
    return Decision(name=name, action=Action.NOTHING, problems=(text,) if other else ())


def taken(name: str, command: str | None = None) -> Decision:
    """A name that the service refuses as taken, while the lists show no secret of it."""
    text = "it is refused as a name is that is taken: a secret of this name may be in another compartment"
    return _refused(name, text, command=command)


def _refused(name: str, *problems: str, command: str | None) -> Decision:
    return Decision(name=name, action=Action.REFUSE, problems=problems, command=command)


# How many writes a second: below a quota that all of an account share, and slower where the service asks for it.

AWS_QUOTA = 50
"""CreateSecret, and TagResource likewise, a second in a region; neither can be raised
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
AWS_RATE = 25.0
"""Leaves half to what else the account does."""
OCI_RATE = 5.0
"""Oracle publishes no limit of Vault."""
SLOWEST = 0.5
"""A second."""
_PART = 100
"""So many successes bring back the rate that one refusal has halved, and no more than that."""
_AT_MOST_EVERY = 1.0
"""Threads that are refused together slow down once."""


class Pace:
    """Lets calls begin one after the other, never more than `rate` in any second.

    A refusal halves the rate; each success brings a part of it back, up to the rate at first. Threads may share it.

    Args:
        rate: Calls a second.
        monotonic: Seconds that only grow.
        sleep: Waits.
    """

    def __init__(
        self, rate: float, *, monotonic: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._most = self._rate = rate
        self._monotonic, self._sleep = monotonic, sleep
        self._lock, self._changing = Lock(), Lock()
        self._next = self._slowed_at = float("-inf")

    @property
    def rate(self) -> float:
        """Calls a second, now."""
        return self._rate

    def wait(self) -> None:
        """Return when the next call may begin: at least `1 / rate` after the one before did."""
        # Who sleeps holds the lock, so that two that wake late do not begin together.
        with self._lock:
            if (wait := self._next - self._monotonic()) > 0:
                self._sleep(wait)
            self._next = self._monotonic() + 1 / self._rate

    def slower(self) -> None:
        """A call was refused, because there were too many."""
        with self._changing:
            now = self._monotonic()
            if now - self._slowed_at >= _AT_MOST_EVERY:
                self._slowed_at = now
                self._rate = max(self._rate / 2, min(SLOWEST, self._most))

    def faster(self) -> None:
        """A call was taken."""
        with self._changing:
            self._rate = min(self._rate + self._most / 2 / _PART, self._most)


# How the sides are deployed, as far as secrets depend on it: `cdk.json`, and an output of Terraform.

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """Settings of `cdk.json`.

    Attributes:
        stack: The stack's name.
        key: `adopt.encryption_key`; None: the stack has made one.
        tags: Of every resource.
    """

    stack: str = DEFAULT_STACK
    key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def stack_settings(cdk_json: object) -> StackSettings:
    """The settings in the document; one that is not there has its default.

    Raises:
        ValueError: It has no settings, or one has another type.
    """
    match cdk_json:
        case {"context": dict() as context}:
            adopt = context.get("adopt") or {}
            key = adopt.get("encryption_key") if isinstance(adopt, dict) else adopt
            given = {"stack": context.get("stack"), "key": key, "tags": context.get("tags")}
            return _read(StackSettings, {name: value for name, value in given.items() if value})
    raise ValueError("it has no `context`")


def ring_terms(output: object, *, region: str) -> RingTerms:
    """What the output `secrets` of Terraform says.

    Args:
        output: The document.
        region: Of the plan's vault.

    Raises:
        ValueError: It is another document.
    """
    if not isinstance(output, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - of a file, not of an argument
    given = {"freeform_tags": output.get("freeform_tags"), **output, "region": region}
    return _read(RingTerms, {**given, "defined_tags": output.get("defined_tags") or {}})


def _read(kind: type[T], given: Mapping[str, object]) -> T:
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        wrong = (f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors(include_url=False))
        raise ValueError("; ".join(wrong)) from None


# Makes and tags secrets, many at a time; what is done stays done, whenever it ends.
#
#     for each secret, in a worker: look → decide → wait for the pace → make or tag
#     throttled or unreachable: slower, and again after a delay; any other error ends the work of all
#
# A secret is made in one call, with its tags, so there is none that is half made: whoever repeats the work finds
# it, or finds nothing.

POLICY = RetryPolicy(
    errors=tuple(family(RetryableError)), attempts=8, interval_seconds=1, max_delay_seconds=30
)
"""For each call: two minutes of an outage pass, and the pace keeps what was slowed down."""
AT_FIRST = 2
"""Retries of a place that has never answered: its address, or the network here, may be wrong."""
WORKERS = 16
"""Of one cloud. Fifty calls a second of 0.3 s each are under way in fifteen."""


class Place(Protocol):
    """Where secrets are made."""

    def decide(self, name: str) -> Decision:
        """Look at a secret, as it is now, and say what becomes of it."""

    def make(self, decision: Decision) -> bool:
        """Make a secret with its tags, in one call; False: there is one of that name."""

    def tag(self, decision: Decision) -> None:
        """Set the tags of a secret that is there."""

    def taken(self, name: str) -> Decision:
        """What to say of a name that is taken by what cannot be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a secret.

    Attributes:
        decision: What was decided.
        is_done: Whether it was made or tagged now.
    """

    decision: Decision
    is_done: bool = False


class _StoppedError(Exception):
    """The work was stopped before its end."""


@dataclass(kw_only=True)
class Work:
    """The work on the secrets of one place.

    Attributes:
        place: Where.
        pace: Of writes.
        side_by_side: Runs the workers.
        sleep: Waits before a call is made again.
        see: Told of each outcome, by one worker at a time.
        stop: Once it is set, no worker begins anything.
        is_dry: Whether nothing is changed.
    """

    place: Place
    pace: Pace
    side_by_side: SideBySide
    sleep: Callable[[float], object]
    see: Callable[[Outcome], None]
    stop: Event
    is_dry: bool = False
    _has_answered: bool = field(default=False, init=False)

    def do(self, names: Sequence[str]) -> None:
        """Do it for each of these secrets.

        Raises:
            LockstepError: The first error that does not pass. What was done until then has been seen.
        """
        waiting, lock = iter(names), Lock()
        workers = min(WORKERS, len(names))
        self.side_by_side([partial(self._worker, waiting, lock)] * workers)

    def _worker(self, waiting: Iterator[str], lock: Lock) -> None:
        try:
            while not self.stop.is_set():
                with lock:
                    name = next(waiting, None)
                if name is None:
                    return
                outcome = self._one(name)
                with lock:
                    self.see(outcome)
        except _StoppedError:
            return
        except BaseException:
            # Also when a person interrupts it: the others end, and then this is raised.
            self.stop.set()
            raise

    def _one(self, name: str) -> Outcome:
        decision = self._patiently(lambda: self.place.decide(name))
        if self.is_dry:
            return Outcome(decision=decision)
        match decision.action:
            case Action.MAKE:
                if self._patiently(lambda: self.place.make(decision), is_write=True):
                    return Outcome(decision=decision, is_done=True)
                return Outcome(decision=self._again(name))
            case Action.TAG:
                self._patiently(lambda: self.place.tag(decision), is_write=True)
                return Outcome(decision=decision, is_done=True)
        return Outcome(decision=decision)

    def _again(self, name: str) -> Decision:
        """Somebody else has made it, or a reply of ours was lost."""
        decision = self._patiently(lambda: self.place.decide(name))
        if decision.action is Action.MAKE:
            return self.place.taken(name)
        return replace(decision, action=Action.NOTHING) if decision.action is Action.TAG else decision

    def _patiently(self, call: Callable[[], T], *, is_write: bool = False) -> T:
        retries = 0
        while True:
            if is_write:
                self.pace.wait()
            if self.stop.is_set():
                raise _StoppedError
            try:
                result = call()
            except LockstepError as error:
                is_silent = isinstance(error, StoreUnreachableError) and not self._has_answered
                most = AT_FIRST if is_silent else POLICY.attempts
                if not isinstance(error, POLICY.errors) or retries >= most:
                    raise
                if isinstance(error, StoreThrottledError):
                    self.pace.slower()
                self.sleep(POLICY.delay_seconds(retries))
                retries += 1
            else:
                self._has_answered = True
                if is_write:
                    self.pace.faster()
                return result
