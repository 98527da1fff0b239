"""Apply: make one database accept the pending value, and prove it."""
