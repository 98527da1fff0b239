"""AWS: the store, the lock, the audit log and its signing key, one file a service."""
