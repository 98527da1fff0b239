"""Announce: tell other programs how a run of the state machine has ended. It is no step, and nothing waits for it."""
