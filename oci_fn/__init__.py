"""OCI: one function that runs the same four steps as AWS's state machine, as its standby."""
