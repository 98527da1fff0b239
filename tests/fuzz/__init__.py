"""Whatever is parsed, fuzzed: one of our errors or an answer, no secret in any message, and in bounded time."""
