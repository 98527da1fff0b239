"""The state machine: what can be said of the definition by reading it, and what it does when it runs."""
