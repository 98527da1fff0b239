"""OCI: the store, the audit log and its signing key, one file a service."""
