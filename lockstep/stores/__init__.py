"""One credential in one store: its two secrets, their texts, and the ring as an algorithm over plain secrets."""
