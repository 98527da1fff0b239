"""The proof that no application is locked out: faults at every call, races, planted bugs, a life. See docs/proof.md."""
