"""The report on the audit log, for people and auditors: a page and JSON."""
