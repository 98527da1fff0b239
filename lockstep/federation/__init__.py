"""Sessions in the other cloud, for proofs that each cloud makes of its own workloads: nothing of it is long-lived."""
