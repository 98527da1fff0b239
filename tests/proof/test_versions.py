"""The versions of a ring last: the shipped adapter on the real SDK, over an emulator that holds Vault's quotas."""

from datetime import timedelta

from lockstep.protocol.ring import MAX_PENDING_DELETION, PURGE_LATENESS, fits_quota
from tests.support.ring_world import advance, emulated_ring

INTERVAL = timedelta(minutes=73)


def test_a_ring_takes_a_version_at_its_shortest_interval_for_ever_also_where_purges_are_late() -> None:
    """From the second day on as many are purged as are added (protocol V13)."""
    assert fits_quota(INTERVAL, 1)
    pending = list[int]()
    with emulated_ring(slots=1) as world:
        world.sandbox.vault.behaviour.purge_lateness = PURGE_LATENESS
        for generation in range(1, timedelta(days=3) // INTERVAL):
            advance(world, generation)
            world.clock.sleep(INTERVAL.total_seconds())
            secret = world.sandbox.vault.settled(world.ids["app_user"][0], world.clock.now())
            assert secret
            pending.append(sum(version.is_pending_deletion for version in secret.state.versions))
            assert len(secret.state.versions) - pending[-1] <= 5  # What was there before Lockstep stays.
    assert MAX_PENDING_DELETION - 2 <= max(pending) == max(pending[-10:])
