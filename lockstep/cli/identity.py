"""`lockstep identity`: what the runners prove themselves with in the other cloud."""

import typer

from lockstep.cli.identity_keys import rotate_key
from lockstep.cli.identity_publish import publish

app = typer.Typer(
    help="The keys and documents with which the runners prove themselves in the other cloud.",
    no_args_is_help=True,
)
app.command("publish")(publish)
app.command("rotate-key")(rotate_key)
