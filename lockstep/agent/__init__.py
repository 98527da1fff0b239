"""The agent: reads a credential for applications beside it, in whatever language they are written.

settings.py   the file that configures it, read and checked
token_file.py the token that requests must bring
sources.py    where values are read
values.py     what is kept of them, and for how long it may be served
given.py      what was handed out last, for who asks who still uses an old one
http.py       the answers, in the dialect of the AWS Secrets Manager Agent
files.py      the files that it writes for other programs
hooks.py      what runs after a file has changed
metrics.py    what Prometheus reads
listening.py  the port or socket
serve.py      all of it in one process
"""

from pathlib import Path

DEFAULT_SETTINGS = Path("/etc/lockstep/agent.yaml")
