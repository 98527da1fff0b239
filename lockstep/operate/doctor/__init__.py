"""Looks at what a rotation needs and no declaration tells, and says what fixes what it finds. It changes nothing."""
