"""`lockstep init`: a first plan, from a few options.

The plan is the template `first_plan.yaml.j2`, with every further key as a comment: what is no option is edited there.
"""

import re
from dataclasses import replace
from shlex import quote
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import typer
from rich.prompt import Confirm

from lockstep import __version__
from lockstep.aws.clients import aws_client, own_region
from lockstep.aws.reads import explained
from lockstep.cli.output import err, plan_file, say, say_aside, say_next, wrong_use
from lockstep.operate.html.templates import text_templates
from lockstep.plan.checks import missing_ca_files
from lockstep.plan.credentials import rds_region
from lockstep.plan.fields import near, with_hint
from lockstep.plan.file import SCHEMA_NAME, PlanProblemsError, parse_plan, plan_schema, schema_text
from lockstep.protocol.errors import LockstepError, line_of
from lockstep.protocol.model import ENGINES, Engine, Strategy
from lockstep.runtime.identity import oci_endpoint, own_oci_identity

CA_FILE = "rds.pem"
"""Where a database of RDS gets its CAs from, beside the plan."""


class Server(NamedTuple):
    """A database, whose name in the plan is that on the server."""

    name: str
    engine: Engine
    host: str
    port: int
    dbname: str


def database_of(url: str) -> Server:
    """A database from `ENGINE://HOST[:PORT]/DBNAME`, named by the database on the server.

    Raises:
        typer.BadParameter: It is none; the text says what to write, and quotes nothing: there may be a password.
    """
    form = "write ENGINE://HOST:PORT/DBNAME, such as mysql://orders.internal:3306/orders"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise typer.BadParameter(form) from None
    if parts.username is not None or parts.password is not None:
        raise typer.BadParameter(f"{form}; a plan has no passwords")
    if parts.scheme not in ENGINES:
        told = f"{form}; the engines are {', '.join(ENGINES)}"
        raise typer.BadParameter(with_hint(told, near(parts.scheme, ENGINES)))
    dbname = parts.path.strip("/")
    if not parts.hostname or not dbname:
        raise typer.BadParameter(form)
    engine = Engine(parts.scheme)
    name = (re.sub(r"[^a-z0-9-]+", "-", dbname.lower()).strip("-0123456789") or "main")[:63]
    port = port or ENGINES[engine].default_port
    return Server(name, engine, parts.hostname, port, dbname)


def username_of(credential: str) -> str:
    """The username of a login, unless another one is named: what a username may have of its id's last part."""
    allowed = re.sub(r"[^A-Za-z0-9_]", "_", credential.rpartition("/")[2])
    return allowed.lstrip("0123456789")[:29] or "app_user"


def init(  # noqa: PLR0913 - an option for each answer
    *,
    databases: Annotated[
        list[Server],
        typer.Option(
            "--database",
            "-d",
            metavar="ENGINE://HOST:PORT/DBNAME",
            parser=database_of,
            help="Where it works; again for each database.",
        ),
    ],
    bucket: Annotated[
        str, typer.Option(help="The S3 bucket for the audit log, one that exists or a new name.")
    ],
    credential: Annotated[
        str, typer.Option("--credential", "-c", help="The login's id, and the name of its secret.")
    ] = "multi-cloud/app_user",
    username: Annotated[
        str | None, typer.Option(help="Its username in the database.  [default: made of the id]")
    ] = None,
    in_use: Annotated[
        bool | None,
        typer.Option(
            "--in-use/--new", help="Whether an application logs in with it today; else you are asked."
        ),
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="The AWS region.  [default: that of your profile]")
    ] = None,
    compartment: Annotated[
        str | None,
        typer.Option(
            help="With OCI: the OCID of the compartment that has its secrets and nothing else.  [default: AWS alone]"
        ),
    ] = None,
    oci_region: Annotated[
        str | None, typer.Option(help="Its region.  [default: that of OCI_CONFIG_FILE]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a plan that exists.")] = False,
) -> None:
    """Write a first plan, with comments, and say what comes next.

    Options say databases, the login, and where in your clouds things go; one question is asked where none says it.
    Region, account and namespace come from your identities where these know them; OCI is asked as the identity in
    OCI_CONFIG_FILE. It changes nothing in a cloud. What no option says is in the plan with a comment: edit the file.

    For a login that an application uses today (--in-use) it writes a plan under which `lockstep import` takes it over.

    With OCI the runners reach each other's cloud by sessions, for which each cloud vouches: there is no access key,
    and in AWS a client secret, which is of no use without a role's token. What nobody knows yet is an example in the
    plan, which the check of the plan names.

    Beside the plan it writes the JSON Schema of this version, with which editors complete and check it.

    Exit code: 0 written, 1 you ended it, 2 the plan exists already, or an option is missing or not valid.
    """
    file = plan_file()
    if file.exists() and not force:
        raise wrong_use(f"{file} exists; give another name with --plan, or replace it with --force")
    region = region or own_region()
    if region is None:
        raise wrong_use("your AWS profile names no region: give --region")
    if in_use is None:
        try:
            in_use = Confirm.ask("Does an application log in with it today?", console=err, default=False)
        except EOFError:
            raise wrong_use("does an application log in with it today? Give --in-use, or --new") from None
    namespace = account = None
    if compartment:
        known, namespace = _known_in_oci()
        oci_region = oci_region or known
        if oci_region is None:
            raise wrong_use("with --compartment also give --oci-region")
        account = _known_account(region)
    names = [server.name for server in databases]
    again = [names[:place].count(name) for place, name in enumerate(names)]
    is_dual = all(Strategy.DUAL_PASSWORD in ENGINES[server.engine].strategies for server in databases)
    answers = {
        "databases": [
            server._replace(name=f"{server.name[:60]}-{number + 1}") if number else server
            for server, number in zip(databases, again, strict=True)
        ],
        "credential": credential,
        "username": username or username_of(credential),
        "in_use": in_use,
        "strategy": Strategy.DUAL_PASSWORD if is_dual else Strategy.ALTERNATING_USERS,
        "region": region,
        "bucket": bucket,
        "compartment": compartment,
        "oci_region": oci_region,
        "namespace": namespace or "examplenamespace",
        "account": account or "111122223333",
    }
    template = text_templates("lockstep.cli", keep_trailing_newline=True).get_template("first_plan.yaml.j2")
    text = template.render(a=answers, schema=SCHEMA_NAME, ca_file=CA_FILE, needs_ca_file=rds_region)
    try:
        plan = parse_plan(text, base=file.parent, environ={})
    except PlanProblemsError as error:
        told = [replace(problem, mark=None) for problem in error.problems]
        raise wrong_use("these options make no valid plan; nothing was written:", problems=told) from None
    file.write_text(text, encoding="utf-8")
    schema_file = file.parent / SCHEMA_NAME
    schema_file.write_text(schema_text(plan_schema()), encoding="utf-8")
    say(f"{file}: written, with {schema_file} for your editor")
    cas = quote(str(file.parent / CA_FILE)) if any(missing_ca_files(plan)) else None
    here, path = (quote(str(name)) for name in (file, file.resolve()))
    steps = text_templates("lockstep.cli").get_template("first_steps.txt.j2")
    say_next(steps.render(a=answers, file=here, path=path, cas=cas).splitlines())
    say(f"make, docs and oci_fn are in the release's archive: lockstep_rotation-{__version__}.tar.gz")


def _known_in_oci() -> tuple[str | None, str | None]:
    """Region and Object Storage namespace, as the own identity in OCI says."""
    try:
        from lockstep.oci.reads import namespace_of  # noqa: PLC0415 - the extra may be missing

        identity = own_oci_identity()
        region = str(identity.config["region"])
        return region, namespace_of(identity, region, endpoint=oci_endpoint())
    except (ModuleNotFoundError, KeyError):
        return None, None
    except LockstepError as error:
        say_aside(f"OCI does not tell its region and namespace, so the plan has an example. {line_of(error)}")
        return None, None


def _known_account(region: str) -> str | None:
    try:
        with explained():
            return str(aws_client("sts", region).get_caller_identity()["Account"])
    except LockstepError as error:
        say_aside(f"AWS does not tell your account. {line_of(error)}")
        return None
