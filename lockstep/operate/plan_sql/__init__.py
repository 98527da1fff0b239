"""The one-time SQL that a DBA reviews and runs, before the first rotation (protocol D21)."""
