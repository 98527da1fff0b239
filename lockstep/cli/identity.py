"""`lockstep identity`: the documents with which the OCI runner proves itself in AWS."""

import typer

from lockstep.cli.identity_publish import publish

app = typer.Typer(
    help="The documents by which AWS verifies the tokens of the OCI runner.",
    no_args_is_help=True,
)
app.command("publish")(publish)
