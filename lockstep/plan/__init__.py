"""The plan file: its sections and checks, the compiled and the published plan, and what changes between two plans."""
