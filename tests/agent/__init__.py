"""The agent: what it serves, writes and refuses."""
