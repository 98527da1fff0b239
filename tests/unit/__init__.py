"""The rules and the steps, over a world in memory."""
