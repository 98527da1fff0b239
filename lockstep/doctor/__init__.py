"""Looks at everything that a rotation needs, and says what mends what it finds. It changes nothing.

`catalogue` has every check in order, `checks` runs them, `findings` is what they say. A check asks the clouds and the
databases through `context`, which can only read.
"""
