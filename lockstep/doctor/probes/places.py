"""The places from which is asked."""

HERE = "here"
"""This machine, in findings."""
