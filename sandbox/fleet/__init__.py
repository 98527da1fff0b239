"""A fleet on this machine: hundreds of credentials, rotated through the deployed state machine of the fleet."""
