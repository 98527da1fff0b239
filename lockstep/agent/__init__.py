"""The agent: reads a credential for applications beside it, in whatever language they are written.

settings.py  the file that configures it, read and checked
values.py    where values are read, what is kept of them, and for how long it may be served
http.py      the answers, in the dialect of the AWS Secrets Manager Agent, and what Prometheus reads
files.py     the files that it writes for other programs, and what runs after one has changed
server.py    the port or socket
serve.py     all of it in one process
"""

from pathlib import Path

DEFAULT_SETTINGS = Path("/etc/lockstep/agent.yaml")
