"""Functions under their real runtimes, frozen between two invocations."""
