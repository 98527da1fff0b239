"""Generate: one generation in flight, staged everywhere before any database hears of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from functions.generate import step as generate
from lockstep.errors import (
    FenceLostError,
    InvalidRequestError,
    LostCompareAndSetError,
    SecretMalformedError,
    StagedValueConflictError,
    StoresDivergedError,
    StoreUnreachableError,
    UnknownUsernameError,
)
from lockstep.messages import (
    CandidateRef,
    GenerateOutcome,
    GenerateRequest,
    GenerateResult,
    ProbeResult,
    Probes,
    Rotation,
)
from lockstep.model import Claim, ClaimKind, CredentialValue, LockRecord, Login, SecretStr, Strategy
from tests.support.memory import PLACEHOLDER_TEXT, MemoryWorld, make_plan
from tests.unit.harness import (
    INTERVAL_SECONDS,
    Killed,
    another_login,
    assert_in_step,
    at_every_boundary,
    edit,
    generated,
    held,
    known_logins,
    login_of,
    quiet,
    rotate,
    rotate_again,
    served,
    set_password,
    shown,
    undisturbed,
)

both_strategies = pytest.mark.parametrize("strategy", list(Strategy))


def _steady(strategy: Strategy = Strategy.DUAL_PASSWORD, *, stores: int = 2) -> MemoryWorld:
    """Two rotations after the take-over, and the next one is due."""
    world = MemoryWorld.create(make_plan(strategy=strategy, stores=stores))
    rotate(world, "first")
    rotate_again(world, "second")
    world.clock.sleep(INTERVAL_SECONDS)
    return world


def _dies(world: MemoryWorld, boundary: str, *, runner: str = "oci") -> None:
    def hook(at: str) -> None:
        if at == boundary:
            raise Killed

    at_every_boundary(world, hook)
    with pytest.raises(Killed):
        rotate(world, "dead", runner=runner)
    undisturbed(world)
    world.clock.sleep(INTERVAL_SECONDS)


def _run(world: MemoryWorld, rotation: Rotation, **more: object) -> GenerateResult:
    request = GenerateRequest.model_validate({"rotation": rotation, **more})
    return generate.run(request, world.ports(rotation.runner))


def _loses_its_lock_table(world: MemoryWorld) -> None:
    world.lock.record = LockRecord(credential_id=world.credential.id)


# A new generation.


@both_strategies
def test_a_new_generation_is_claimed_and_staged_in_every_store_and_known_to_no_database(
    strategy: Strategy,
) -> None:
    world = _steady(strategy)
    before = known_logins(world), served(world)
    result, claim = generated(world, held(world, "third"))
    assert claim == Claim(
        kind=ClaimKind.NEW, generation=3, base_generation=2, previous_generation=1, rotation_id="third"
    )
    assert (result.outcome, result.adopted, result.keep_base) == (GenerateOutcome.STAGED, False, True)
    assert result.databases == ("db-1", "db-2")
    assert world.lock.record.claim == claim
    staged = [store.read_generation(3) for store in world.stores.values()]
    assert staged[0] is not None
    assert staged[0] == staged[1]
    assert (known_logins(world), served(world)) == before


def test_with_alternating_users_the_other_one_gets_the_new_password() -> None:
    world = _steady(Strategy.ALTERNATING_USERS)
    current = login_of(world, 2).username
    generated(world, held(world, "third"))
    assert {current, login_of(world, 3).username} == {"app_a", "app_b"}


def test_stores_are_staged_in_the_order_of_the_plan_after_the_claim() -> None:
    world = _steady()
    seen: list[str] = []
    at_every_boundary(world, seen.append)
    _run(world, held(world, "third"))
    undisturbed(world)
    writes = [b for b in seen if b.startswith("before") and any(w in b for w in ("claim", "stage"))]
    assert writes == [
        "before lock claim",
        "before aws stage app_user",
        "before aws stage connection_blob",
        "before oci stage app_user",
        "before oci stage connection_blob",
    ]


def test_the_output_holds_no_secret() -> None:
    world = _steady()
    result, _ = generated(world, held(world, "third"))
    text = result.model_dump_json()
    assert login_of(world, 3).password.reveal() not in text
    assert login_of(world, 2).password.reveal() not in text


def test_a_login_without_a_generation_is_taken_over_as_generation_0() -> None:
    world = MemoryWorld.create()
    _, claim = generated(world, held(world))
    assert (claim.generation, claim.base_generation, claim.previous_generation) == (1, 0, None)
    assert login_of(world, 1).username == login_of(world, 0).username


def test_a_taken_over_login_must_be_one_of_the_plan() -> None:
    world = MemoryWorld.create()
    for store in world.stores.values():
        edit(store, Login("root", SecretStr("before-lockstep")))
    with pytest.raises(UnknownUsernameError):
        generated(world, held(world))


@both_strategies
def test_placeholders_are_replaced_by_the_first_generation(strategy: Strategy) -> None:
    world = MemoryWorld.create(make_plan(strategy=strategy), placeholder=True)
    _, claim = generated(world, held(world))
    assert (claim.kind, claim.generation, claim.base_generation) == (ClaimKind.NEW, 1, 0)
    assert login_of(world, 1).username == world.credential.usernames[0]
    assert_in_step(world, rotate_again(world, "whole").generation)


@pytest.mark.parametrize("empty", ["aws", "oci"])
@both_strategies
def test_where_only_one_store_holds_a_placeholder_the_other_ones_login_is_taken_over(
    empty: str, strategy: Strategy
) -> None:
    world = MemoryWorld.create(make_plan(strategy=strategy))
    login = login_of(world, 0)
    world.stores[empty].edit("app_user", PLACEHOLDER_TEXT)
    result = rotate(world, "first")
    assert_in_step(world, result.generation)
    assert login_of(world, 1) == login


# What stops it, and that nothing was changed then.


@pytest.mark.parametrize("store", ["aws", "oci"])
def test_a_store_that_cannot_be_read_stops_it_before_anything_is_claimed(store: str) -> None:
    world = _steady()
    rotation = held(world, "third")
    world.stores[store].faults.before = _fails_at("read_current", StoreUnreachableError(store=store))
    with pytest.raises(StoreUnreachableError):
        _run(world, rotation)
    undisturbed(world)
    assert world.lock.record.claim is None
    assert all(s.read_generation(3) is None for s in world.stores.values())


def test_so_does_a_secret_that_makes_no_sense() -> None:
    world = _steady()
    world.stores["oci"].edit("app_user", "hunter2")
    with pytest.raises(SecretMalformedError):
        generated(world, held(world, "third"))
    assert world.lock.record.claim is None


def test_a_run_that_lost_the_lock_claims_nothing() -> None:
    world = _steady()
    rotation = held(world, "third")
    world.clock.sleep(INTERVAL_SECONDS)
    held(world, "taker", runner="oci")
    with pytest.raises(FenceLostError):
        _run(world, rotation)
    assert world.lock.record.claim is None


def test_a_run_that_lost_the_lock_adopts_nothing() -> None:
    world = _steady()
    rotation = held(world, "third")
    world.clock.sleep(INTERVAL_SECONDS)
    generated(world, held(world, "taker", runner="oci"))
    with pytest.raises(FenceLostError):
        _run(world, rotation)


def test_other_content_under_the_generations_name_is_an_error_and_stays() -> None:
    world = _steady()
    rotation, stores = held(world, "third"), list(world.stores.values())
    forged = another_login(world)

    def forge(operation: str) -> None:
        if operation == "stage app_user":
            undisturbed(world)
            stores[1].stage(replace(_value(world, 2), generation=3, login=forged))

    stores[1].faults.before = forge
    with pytest.raises(StagedValueConflictError):
        _run(world, rotation)
    found = stores[1].read_generation(3)
    assert found
    assert found.login == forged


def _value(world: MemoryWorld, generation: int) -> CredentialValue:
    found = world.stores["aws"].read_generation(generation)
    assert found
    return found


def _fails_at(operation: str, error: Exception) -> Callable[[str], None]:
    def hook(at: str) -> None:
        if at == operation:
            raise error

    return hook


# Twice.


@both_strategies
def test_twice_is_as_good_as_once(strategy: Strategy) -> None:
    world = _steady(strategy)
    rotation = held(world, "third")
    first = _run(world, rotation)
    value, record = login_of(world, 3), world.lock.record
    assert _run(world, rotation) == first
    assert (login_of(world, 3), world.lock.record) == (value, record)
    assert all(s.read_generation(4) is None for s in world.stores.values())


@both_strategies
def test_twice_at_once_is_as_good_as_once(strategy: Strategy) -> None:
    at = 0
    while True:
        world = _steady(strategy)
        rotation = held(world, "third")
        twin = _TwinAt(at, world, rotation)
        at_every_boundary(world, twin)
        try:
            result = _run(world, rotation)
        except LostCompareAndSetError:  # The state machine tries again.
            undisturbed(world)
            result = _run(world, rotation)
        undisturbed(world)
        if twin.result is None:
            break
        assert result.claim == twin.result.claim == world.lock.record.claim, twin.boundary
        assert len({shown(_value_in(world, store)) for store in world.stores}) == 1, twin.boundary
        at += 1
    assert at >= 20


class _TwinAt:
    """The hook that runs the whole step once more at the n-th boundary of the first."""

    def __init__(self, at: int, world: MemoryWorld, rotation: Rotation) -> None:
        self.boundary = ""
        self.result: GenerateResult | None = None
        self._left = at
        self._world = world
        self._rotation = rotation

    def __call__(self, boundary: str) -> None:
        if self._left == 0:
            self.boundary = boundary
            with quiet(self._world):
                self.result = _run(self._world, self._rotation)
        self._left -= 1


def _value_in(world: MemoryWorld, store: str) -> Login:
    found = world.stores[store].read_generation(3)
    assert found
    return found.login


# Adopting.

PHASES = [
    "after lock claim",
    "before aws stage app_user",
    "after aws stage app_user",
    "before oci stage app_user",
    "after oci stage connection_blob",
    "after db-1 stage",
    "after db-2 stage",
    "after aws promote app_user",
    "after aws promote connection_blob",
    "after oci promote connection_blob",
    "before oci log put",
    "after oci log put",
    "after lock move_head",
    "before lock release",
]


@pytest.mark.parametrize("phase", PHASES)
@both_strategies
def test_a_generation_in_flight_is_adopted_in_every_phase(phase: str, strategy: Strategy) -> None:
    world = _steady(strategy)
    _dies(world, phase)
    claim, staged = world.lock.record.claim, world.stores["aws"].read_generation(3)
    result, adopted = generated(world, held(world, "taker"))
    assert result.adopted
    assert adopted == claim
    assert world.lock.record.claim == claim
    values = [store.read_generation(3) for store in world.stores.values()]
    assert values[0] == values[1]
    assert staged in (None, values[0])
    assert result.keep_base == (served(world)["oci"][0] == 2)


@both_strategies
def test_a_higher_version_that_nobody_claimed_is_never_adopted(strategy: Strategy) -> None:
    world = _steady(strategy)
    for store in world.stores.values():
        store.stage(replace(_value(world, 2), generation=9, login=another_login(world)))
    _, claim = generated(world, held(world, "third"))
    assert claim.generation == 3


# Healing.


@pytest.mark.parametrize("edited", ["aws", "oci"])
@both_strategies
def test_a_store_that_was_edited_by_hand_is_asked_about_and_loses(edited: str, strategy: Strategy) -> None:
    world = _steady(strategy)
    current = login_of(world, 2)
    edit(world.stores[edited], another_login(world))
    asked = _run(world, held(world, "third"))
    assert (asked.outcome, asked.claim) == (GenerateOutcome.PROBE, None)
    assert world.lock.record.claim is None
    world.clock.sleep(INTERVAL_SECONDS)
    result = rotate(world, "fourth")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == current
    assert world.passwords.count == 2


@both_strategies
def test_the_only_store_that_was_edited_by_hand_gets_the_last_value_back(strategy: Strategy) -> None:
    world = _steady(strategy, stores=1)
    current = login_of(world, 2)
    edit(world.stores["aws"], another_login(world))
    result = rotate(world, "third")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == current


@both_strategies
def test_a_password_that_was_changed_everywhere_by_hand_wins(strategy: Strategy) -> None:
    world = _steady(strategy)
    changed = Login(login_of(world, 2).username, SecretStr("changed-by-hand"))
    set_password(world, changed)
    edit(world.stores["oci"], changed)
    result = rotate(world, "third")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == changed


@pytest.mark.parametrize("secret", ["app_user", "connection_blob"])
def test_a_text_that_was_copied_by_hand_is_no_generation(secret: str) -> None:
    world = _steady()
    current = login_of(world, 2)
    store = world.stores["oci"]
    assert secret in ("app_user", "connection_blob")
    if secret == "app_user":
        store.edit("app_user", store.current_text("app_user"))
    else:
        store.edit("connection_blob", store.current_text("connection_blob"))
    result = rotate(world, "third")
    assert result.generation == 3
    assert_in_step(world, 3)
    assert login_of(world, 3) == current


def test_where_nobody_wins_nothing_is_changed() -> None:
    world = _steady()
    before = served(world)
    set_password(world, another_login(world, "nobody-knows"))
    edit(world.stores["oci"], another_login(world))
    with pytest.raises(StoresDivergedError):
        rotate(world, "third")
    assert world.lock.record.claim is None
    assert served(world)["aws"] == before["aws"]


def test_what_logs_in_only_on_one_database_does_not_win() -> None:
    world = _steady()
    typed = another_login(world)
    world.databases["db-2"].accounts["app"].passwords = (typed.password.reveal(),)
    edit(world.stores["oci"], typed)
    with pytest.raises(StoresDivergedError):
        rotate(world, "third")


def test_where_only_placeholders_are_left_there_is_nobody_to_ask() -> None:
    world = MemoryWorld.create(placeholder=True)
    world.lock.record = replace(world.lock.record, current_generation=5)
    with pytest.raises(StoresDivergedError):
        _run(world, held(world))


def test_probes_must_come_from_every_database() -> None:
    world = _steady()
    edit(world.stores["oci"], another_login(world))
    rotation = held(world, "third")
    asked = _run(world, rotation)
    for databases in ((), ("db-1",), ("db-1", "db-2", "db-3")):
        answers = tuple(ProbeResult(database=d, accepted=(True, True)) for d in databases)
        with pytest.raises(InvalidRequestError):
            _run(world, rotation, probes=Probes(candidates=asked.candidates, databases=answers))
    assert world.lock.record.claim is None


def test_a_winner_that_is_gone_is_asked_about_again() -> None:
    world = _steady()
    edit(world.stores["oci"], another_login(world))
    rotation = held(world, "third")
    candidates = (CandidateRef(store="aws", version="gone"),)
    answers = tuple(ProbeResult(database=d, accepted=(True,)) for d in world.databases)
    with pytest.raises(LostCompareAndSetError):
        _run(world, rotation, probes=Probes(candidates=candidates, databases=answers))


@pytest.mark.parametrize(
    "phase", ["after lock claim", "after aws stage app_user", "after aws promote app_user"]
)
@both_strategies
def test_a_heal_in_flight_is_finished_or_gives_way_to_what_works_by_now(
    phase: str, strategy: Strategy
) -> None:
    world = _steady(strategy)
    edit(world.stores["oci"], another_login(world))
    _dies(world, phase)
    once_more = Login(login_of(world, 2).username, SecretStr("changed-once-more"))
    set_password(world, once_more)
    edit(world.stores["oci"], once_more)
    result = rotate(world, "taker")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == once_more


@pytest.mark.parametrize("phase", PHASES[:-5])
@both_strategies
def test_an_edit_in_the_middle_of_a_rotation_is_healed(phase: str, strategy: Strategy) -> None:
    world = _steady(strategy)
    _dies(world, phase)
    edit(world.stores["oci"], another_login(world))
    result = rotate(world, "taker")
    assert_in_step(world, result.generation)
    assert_in_step(world, rotate_again(world, "following").generation)


# A lock table that was lost, or an old copy of it.


def _long_lived(strategy: Strategy) -> MemoryWorld:
    world = MemoryWorld.create(make_plan(strategy=strategy))
    world.lock.record = replace(world.lock.record, fence=56)
    rotate(world, "long-ago")
    world.clock.sleep(INTERVAL_SECONDS)
    return world


@both_strategies
def test_a_lost_lock_table_lets_generations_go_on_where_the_stores_stand(strategy: Strategy) -> None:
    world = _long_lived(strategy)
    _loses_its_lock_table(world)
    _, claim = generated(world, held(world, "first-again"))
    assert (claim.generation, claim.base_generation) == (58, 57)
    assert_in_step(world, rotate_again(world, "second-again").generation)


@pytest.mark.parametrize("failed_runs", [0, 1, 2])
@both_strategies
def test_what_was_staged_before_the_table_was_lost_never_comes_back(
    strategy: Strategy, failed_runs: int
) -> None:
    # The number of failed runs before decides whose turn it would be: the current user's, with alternating users.
    world = _steady(strategy)
    world.lock.record = replace(world.lock.record, fence=world.lock.record.fence + failed_runs)
    _dies(world, "after db-1 stage")
    forgotten = world.stores["aws"].read_generation(3 + failed_runs)
    assert forgotten
    _loses_its_lock_table(world)
    for run in range(4):
        result = rotate_again(world, f"again-{run}")
        assert_in_step(world, result.generation)
        assert shown(login_of(world, result.generation or 0)) != shown(forgotten.login)


@both_strategies
def test_a_heal_does_not_take_a_forgotten_value_for_its_own(strategy: Strategy) -> None:
    world = _steady(strategy)
    _dies(world, "after db-1 stage")
    current = login_of(world, 2)
    _loses_its_lock_table(world)
    edit(world.stores["oci"], another_login(world))
    result = rotate(world, "healer")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == current


@both_strategies
def test_a_lost_lock_table_and_an_edit_go_on_above_what_the_other_secret_serves(strategy: Strategy) -> None:
    world = _long_lived(strategy)
    _loses_its_lock_table(world)
    current = login_of(world, 57)
    for store in world.stores.values():
        edit(store, current)
    result = rotate(world, "healer")
    assert result.generation == 58
    assert_in_step(world, 58)


@pytest.mark.parametrize("hand_edited", [False, True], ids=["new", "heal"])
@both_strategies
def test_a_claim_from_an_old_copy_of_the_lock_table_is_not_adopted(
    strategy: Strategy,
    hand_edited: bool,  # noqa: FBT001 - a row of the table
) -> None:
    world = _steady(strategy)
    if hand_edited:
        edit(world.stores["oci"], another_login(world))
    _dies(world, "after lock claim")
    copy = world.lock.record
    for run in range(3):
        rotate_again(world, f"before-the-loss-{run}")
    world.lock.record = replace(copy, heads=world.lock.record.heads)
    current = login_of(world, served(world)["aws"][0])
    result = rotate_again(world, "healer")
    assert_in_step(world, result.generation)
    assert login_of(world, result.generation or 0) == current


# A password that was refused by policy.


@both_strategies
def test_a_refused_generation_is_replaced_by_a_new_one_on_the_same_base(strategy: Strategy) -> None:
    world = _steady(strategy)
    rotation = held(world, "third")
    _, refused = generated(world, rotation)
    result = _run(world, rotation, replaces=refused)
    assert result.claim == Claim(
        kind=ClaimKind.NEW, generation=4, base_generation=2, previous_generation=1, rotation_id="third"
    )
    assert not result.adopted
    assert shown(login_of(world, 4)) != shown(login_of(world, 3))
    assert login_of(world, 4).username == login_of(world, 3).username


def test_it_is_replaced_once_also_when_the_step_runs_twice() -> None:
    world = _steady()
    rotation = held(world, "third")
    _, refused = generated(world, rotation)
    first = _run(world, rotation, replaces=refused)
    assert _run(world, rotation, replaces=refused) == first


def test_only_the_claim_that_stands_can_be_replaced() -> None:
    world = _steady()
    rotation = held(world, "third")
    _, claim = generated(world, rotation)
    other = replace(claim, generation=2)
    result = _run(world, rotation, replaces=other)
    assert result.claim == claim
