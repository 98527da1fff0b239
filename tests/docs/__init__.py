"""The documentation: its links, its site, and the commands that it shows."""
