"""OCI, one file a service."""
