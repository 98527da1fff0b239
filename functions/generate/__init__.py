"""Prepare: claim a generation and stage its value in every store."""
