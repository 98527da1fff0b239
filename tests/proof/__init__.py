"""The proof that nobody is ever locked out: faults at every call, races, planted bugs, load. See docs/proof.md."""
