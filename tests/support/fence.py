"""The fence where nobody else is about."""


def nobody_else() -> None:
    """What `Store.promote` asks, in tests that run without a lock: the answer is always yes."""
