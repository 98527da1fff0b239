"""AWS, one file a service."""
