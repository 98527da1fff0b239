"""Wiring: who a process is, its clients, and which adapter serves which port."""
