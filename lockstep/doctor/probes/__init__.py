"""Looks at databases, stores and clouds that a function can make too: nothing here reads a plan file."""
