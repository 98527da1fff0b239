"""The places from which is asked."""

HERE = "here"
"""This machine, in findings."""
ASK_DATABASES = frozenset({"aws/apply_db", "oci/rotate"})
"""The functions that look at databases, and show them logins."""
