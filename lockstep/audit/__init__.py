"""The signed, chained record of every rotation: entry, chain, verification, events."""
