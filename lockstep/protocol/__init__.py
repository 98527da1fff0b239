"""The protocol: nouns, lock rule, decisions, orders, schedule, messages, errors, ports. Pure: no I/O, no SDK."""
