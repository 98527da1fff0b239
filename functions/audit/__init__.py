"""Record: append one signed entry to the audit log."""
