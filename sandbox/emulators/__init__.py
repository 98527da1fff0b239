"""Both clouds and the databases, on this machine. What stands on them is beside this folder."""
