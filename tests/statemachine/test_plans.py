"""Two deployments with different plans of one credential: only the active one changes anything (protocol O1, O9)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from ruamel.yaml import YAML

from lockstep.plan.file import load_plan
from lockstep.protocol.model import Login, SecretStr
from lockstep.protocol.orders import Activate, TakeOver
from lockstep.runtime import wiring
from sandbox.estate import environment
from sandbox.servers import set_password
from tests.statemachine.conftest import Case


@contextmanager
def deployed_without(case: Case, database: str) -> Iterator[str]:
    """The same functions under a plan that does not name one of the credential's databases; its digest."""
    document = YAML(typ="safe").load(case.world.plan_file)
    planned = next(c for c in document["credentials"] if c["id"] == case.credential.id)
    planned["databases"].remove(database)
    file = case.world.plan_file.with_name("smaller.yaml")  # The CA files of the plan are beside it.
    file.write_text(json.dumps(document))
    credential = load_plan(file).credential(case.credential.id)
    assert credential
    with environment({wiring.PLAN_VARIABLE: str(file)}):
        yield credential.plan_digest


def test_a_database_leaves_by_activation_and_the_old_plan_stops(spanning: Case) -> None:
    spanning.settle()
    spanning.again()
    with deployed_without(spanning, "ledger") as digest:
        spanning.order(Activate(digest=digest, replaces=spanning.credential.plan_digest))
    # Until the next claim of the new plan, the old one is the active one.
    assert spanning.again().output["kind"] == "new"
    with deployed_without(spanning, "ledger"):
        activation = spanning.again()
        assert (activation.output["outcome"], activation.output["kind"]) == ("rotated", "reconcile")
        assert spanning.again().output["kind"] == "new"
    assert spanning.locked_out() == ["ledger"]
    before = spanning.stored_login()
    execution = spanning.again()
    assert (execution.error, "lockstep apply" in (execution.cause or "")) == (
        "PlanNotActiveError",
        True,
    )
    assert spanning.stored_login() == before
    assert "pending_generation" not in spanning.lock


def test_a_database_joins_by_activation(spanning: Case) -> None:
    """It knows an old value of the stores: the account is ours, and nobody is asked (protocol O7)."""
    before = _waits_to_join(spanning)
    assert spanning.again().output["kind"] == "reconcile"
    _assert_joined(spanning, before)


def test_a_database_that_knows_no_value_joins_by_activation_and_take_over(spanning: Case) -> None:
    """The activation waits for a consent to set its password (protocol O6, O7)."""
    before = _waits_to_join(spanning)
    for username in spanning.credential.usernames:
        set_password(spanning.world.servers["ledger"], Login(username, SecretStr("of another world")))
    assert spanning.again().error == "DatabaseBlockedError"
    assert spanning.stored_login() == before
    spanning.order(TakeOver(databases=frozenset({"ledger"})))
    execution = spanning.rotate()
    assert (execution.output["outcome"], execution.output["kind"]) == ("rotated", "reconcile")
    _assert_joined(spanning, before)


def _waits_to_join(case: Case) -> Login:
    """The plan with both databases is to become active, after rotations that one of them never saw; what is served."""
    case.settle()
    with deployed_without(case, "ledger") as digest:
        case.order(Activate(digest=digest, replaces=case.credential.plan_digest))
        assert [case.again().output["kind"] for _ in range(3)] == ["reconcile", "new", "new"]
    case.order(Activate(digest=case.credential.plan_digest, replaces=digest))
    return case.stored_login()


def _assert_joined(case: Case, before: Login) -> None:
    assert case.stored_login() == before
    assert case.locked_out() == []
    assert case.lock["plan"] == case.credential.plan_digest
    assert case.again().output["kind"] == "new"
    assert case.locked_out() == []
