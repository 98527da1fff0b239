"""What is kept of the stores, and for how long it may be served."""

from lockstep.agent.values import Values
from lockstep.client.sources import StoredText
from lockstep.protocol.errors import Environment, EnvironmentalError, StoreAccessDeniedError
from tests.agent.harness import NAME, NEEDLE, OVERLAP, FakeStore, World, secret_of

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
SECONDS = OVERLAP.total_seconds()


def test_a_store_that_does_not_answer_is_waited_for_once_in_a_round() -> None:
    """Else the time-outs of many secrets add up to an overlap, and values that the next store has grow old."""
    world = World()
    names = [f"{NAME}_{n}" for n in range(50)]
    values = Values([secret_of(n, oci=world.near, aws=world.far) for n in names], world.clock.monotonic)
    world.near.is_up = False
    values.refresh()
    assert values.are_served
    assert (world.near.reads, world.far.reads) == (1, 50)
    world.near.is_up = True
    values.refresh()
    assert (world.near.reads, world.far.reads) == (51, 50)
    # So is one where this process is nobody, which takes seconds to see. A secret that is denied is one secret.
    world.near.is_up, world.near.problem = False, StoreAccessDeniedError(code="no-identity")
    for cause, reads in ((Environment.OCI_IDENTITY_MISSING, 1), (Environment.OCI_ACTION_DENIED, 50)):
        world.near.reads, world.near.problem.__cause__ = 0, EnvironmentalError(cause)
        values.refresh()
        assert world.near.reads == reads


def test_why_a_store_was_passed_over_is_said_without_the_text_of_a_foreign_error() -> None:
    world = World()
    world.near.generation = world.far.generation = 7
    world.value.refresh()
    assert not world.value.problem
    world.near.generation = 6
    world.value.refresh()
    assert world.value.problem.startswith("ReadSideLaggingError: ")

    def defect() -> StoredText:
        raise KeyError(NEEDLE)

    [value] = Values([secret_of(oci=defect, aws=world.far)], world.clock.monotonic)
    value.refresh()
    assert value.served
    assert value.problem == "KeyError"


def test_a_value_is_served_for_the_overlap_after_a_store_was_seen_to_serve_it() -> None:
    world = World()
    world.value.refresh()
    world.near.is_up = world.far.is_up = False
    world.clock.sleep(SECONDS - 1)
    world.value.refresh()
    assert (world.values.are_served, world.value.seconds_left) == (True, 1)
    world.clock.sleep(1)
    assert not world.values.are_served
    assert world.value.kept  # It is said how old it is.


def test_callers_that_want_a_fresh_value_share_reads() -> None:
    world = World()
    for _ in range(50):
        world.value.refresh_now()
    assert world.near.reads == 1
    world.clock.sleep(1.5)
    world.value.refresh_now()
    assert world.near.reads == 2


def test_an_arn_without_its_end_means_the_secret_of_that_name_and_no_other() -> None:
    """AWS takes a partial ARN, too. The end of `prod-orders` could be the one that AWS appends."""
    names, store = ("prod", "prod-db", "prod-orders", NAME), FakeStore(arn=f"{ARN}prod-a1B2c3")
    values = Values([secret_of(n, aws=store, region="eu-central-1") for n in names], World().clock.monotonic)
    for name in names:
        for arn in (name, f"{ARN}{name}", f"{ARN}{name}-a1B2c3"):
            found = values.find(arn)
            assert found, arn
            assert found.secret.name == name
    of_another = ("prod-", "prod-d", "prod-db-", "prod-db-a1B2c", "prod-db-a1B2c3d", "prod-other")
    others = (f"{ARN}{NAME}_2-a1B2c3", f"arn:aws:s3:::{NAME}", f"{ARN}prod".replace("eu-", "us-"))
    for wrong in ("", "multi-cloud", *others, *(ARN + name for name in of_another)):
        assert values.find(wrong) is None, wrong
    values.refresh()
    assert values.find(f"{ARN}prod")
    for is_of, other in (("123456789012", "999999999999"), ("aws", "aws-cn"), ("eu-", "us-")):
        assert values.find(f"{ARN}prod".replace(is_of, other, 1)) is None, other
