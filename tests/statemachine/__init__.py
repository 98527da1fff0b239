"""The state machine: its definition, and its executions."""
