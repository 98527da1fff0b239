"""Digest: name the newest entry of every chain of AWS's audit log, and the newest digest of OCI, and sign that."""
