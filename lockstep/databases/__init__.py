"""The engines: one driver each, verifiers, TLS, sessions, and what can be asked of a server without a change."""
