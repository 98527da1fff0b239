"""Looks at everything that a rotation needs, and says what fixes what it finds. It changes nothing."""
