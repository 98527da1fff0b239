"""The `lockstep` command: check a plan, print its SQL, look at the state, verify the audit log.

Exit codes: 0 done, 1 check failed (not in sync, not verified), 2 usage error or invalid plan, 3 a cloud
or database was unreachable.
"""

from lockstep.cli.app import app

__all__ = ["app"]
