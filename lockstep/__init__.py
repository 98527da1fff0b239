"""Lockstep rotates database credentials in AWS and OCI, in step, without a gap in which a login fails."""
