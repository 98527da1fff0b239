"""Lockstep rotates database credentials in AWS and OCI, in sync, without a gap in which a login fails."""

__version__ = "0.1.0"
