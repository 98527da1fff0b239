"""The rules and the steps, on a world in memory."""
