"""The fence check of tests that run without a lock."""


def fence_held() -> None:
    """The `still_ours` of a promotion by a run that holds the lock."""
