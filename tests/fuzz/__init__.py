"""Fuzzing of every parser: each input gives a value or one of our errors, shows no secret, and takes bounded time."""
