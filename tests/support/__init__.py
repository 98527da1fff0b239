"""Doubles that behave, and what tests share."""
