"""The four steps of a rotation, each a pure step over ports and a Lambda face; and the watch."""
