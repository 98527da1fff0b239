"""`make bench`: what a rotation costs, measured on this machine.

The network between the code and both clouds is simulated: each request waits, and requests that are under way at the
same time wait at the same time. So what depends on what shows in the time that a rotation takes.
"""
