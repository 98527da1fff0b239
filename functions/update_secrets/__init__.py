"""Commit: promote the pending value in every store."""
