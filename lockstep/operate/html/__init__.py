"""What the audit report and the live page share: style sheet, parts of a page, formats of values."""
