"""The proof that no application is locked out: faults at every call, races, planted bugs, load. See docs/proof.md."""
