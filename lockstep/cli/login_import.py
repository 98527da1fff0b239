"""`lockstep import`: bring the login that works now under Lockstep's management."""

import dataclasses
import json
import sys
from functools import partial
from typing import Annotated

import typer

from lockstep.cli.orders import OrderContext, entry_text, order_context
from lockstep.cli.output import CredentialArgument, DryRun, complain, one, plan_or_exit, say, wrong_use
from lockstep.cli.secrets import make_missing
from lockstep.operate.login_import import Estate, import_login, lacking, prove, texts_to_write
from lockstep.operate.verdict import next_step
from lockstep.protocol.errors import OrderRefusedError, SecretMalformedError
from lockstep.protocol.events import Adopted
from lockstep.protocol.model import Credential, Login
from lockstep.protocol.ports import BINARY, NOT_AN_OBJECT
from lockstep.stores.contents import decode_app_user

_NEXT = {
    "login-refused": "find the login that works there, or, where nobody knows one: lockstep take-over {id} {database}. "
    "Whether what the stores serve does: lockstep doctor --only database.login",
    "admin-refused": "it is the rotation user's own login: find the one that works on {database}, or let a DBA set its "
    "password there",
    "promoting": "generation {generation} is being promoted; to finish it: lockstep rotate {id} --force",
    BINARY: "store {store} has a binary value in {secret}; keep it elsewhere, then repeat this with --replace",
    NOT_AN_OBJECT: "store {store} has no JSON object in {secret}, for example a bare password; keep it "
    "elsewhere, then repeat this with --replace",
    "not-made": "store {store} lacks a secret that is not made from here; who deploys makes it: lockstep secrets "
    "create {id}",
    "lock-held": "a run is under way; wait until it has ended: lockstep lock show {id}",
}


def command(
    credential_id: CredentialArgument,
    *,
    secret: Annotated[
        str | None,
        typer.Option("--from-secret", help="Read the login from this secret of the plan's first store."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a value that is not a JSON object; it is lost.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Import the login that works now.

    The login comes from standard input or from a secret, never from the command line. It is a JSON object with
    `username` and `password`. It must log in on every database of the credential. Then
    every store, and every slot of a ring, serves it, beside the other keys that the secret has there; no database is
    changed. A secret that a store lacks is made first, as `lockstep secrets create` makes it. It can be run again at
    any time, and finishes what was left.
    With `--dry-run` it logs in, and says what would be made and written.

    Exit code: 0 every store serves it, 1 refused, 2 no login was given, 3 a cloud or a database was unreachable.
    """
    plan = plan_or_exit()
    credential, at = one(plan, credential_id), order_context(plan)
    login = _login(_text(at, secret))
    try:
        _import_login(login, credential, at, replace=replace, dry_run=dry_run)
    except OrderRefusedError as error:
        where = {"id": credential.id, "secret": credential.secret_names.app_user, **error.where}
        if todo := _NEXT.get(where.get("code", "")):
            complain(todo.format(**where))
        raise


def _import_login(
    login: Login, credential: Credential, at: OrderContext, *, replace: bool, dry_run: bool
) -> None:
    clouds = at.clouds
    estate = Estate(
        credential=credential,
        databases=[clouds.database(server, credential, imported=login) for server in credential.servers],
        secrets=clouds.app_users(credential),
        stores=clouds.each_store(credential),
        make=partial(make_missing, at.plan, clouds, credential),
        orders=clouds.orders(credential),
        chain=clouds.chain(at.stream, credential),
        clock=clouds.clock,
        by=at.operator(),
    )
    if dry_run:
        prove(login, estate)
        say(f"{credential.id}: it logs in on {', '.join(credential.databases)}")
        without = [store.name for store in lacking(estate)]
        for store in without:
            say(f"would make what is missing in store {store}")
        there = {store: secret for store, secret in estate.secrets.items() if store not in without}
        missing = texts_to_write(login, dataclasses.replace(estate, secrets=there), replace=replace)
        say(f"would write it into: {', '.join([*without, *missing]) or 'no store, all serve it'}")
        return
    done = import_login(login, estate, replace=replace)
    for store, name in done.made:
        say(f"made {name} in store {store}")
    if done.entry:
        adopted = Adopted(
            credential=credential.id,
            stores=done.written,
            databases=credential.databases,
            entry=at.place(done.entry),
        )
        at.publish(adopted, done.entry)
    where = ", ".join(done.written) or "no store, all served it"
    say(
        f"{credential.id}: imported; written into {where} ({entry_text(done.entry, at.stream)})",
        style="green",
    )
    say(f"next: {next_step(at.read(credential), credential, at.clouds.clock.now(), may_run=True)}")


def _text(at: OrderContext, secret: str | None) -> str:
    """The text with the login, wherever it comes from."""
    if secret:
        return at.clouds.secret_in(at.plan.stores[0].name, secret)
    if sys.stdin.isatty():
        username = typer.prompt("username", err=True)
        password = typer.prompt("password", hide_input=True, err=True)
        return json.dumps({"username": username, "password": password})
    return sys.stdin.read()


def _login(text: str) -> Login:
    """The login in a text, or exit code 2. What is wrong with it is not quoted: it may be a password."""
    try:
        login, _ = decode_app_user(text, store="input", secret="")
    except SecretMalformedError:
        login = None
    if login is None:
        raise wrong_use("that is not a login: give a JSON object with `username` and `password`")
    return login
