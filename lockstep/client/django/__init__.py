"""Database backends for Django, one folder each, as Django asks."""
