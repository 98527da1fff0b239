"""`lockstep init`: write the first plan, from a few answers and from what the clouds have."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lockstep.cli.init_plan import (
    CA_FILE,
    Answers,
    OciAnswer,
    SessionsAnswer,
    database_of,
    distinct,
    plan_text,
)
from lockstep.cli.init_questions import questions
from lockstep.cli.output import DEFAULT_PLAN, PlanFile, say, wrong_use
from lockstep.plan import Plan
from lockstep.plan_checks import missing_ca_files
from lockstep.plan_file import PlanProblemsError, parse_plan
from lockstep.plan_schema import SCHEMA_NAME, plan_schema, schema_text


def init(  # noqa: PLR0913 - an option for each answer
    *,
    file: PlanFile = DEFAULT_PLAN,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; the options say it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    databases: Annotated[
        list[str] | None,
        typer.Option("--database", "-d", help="ENGINE://HOST:PORT/DBNAME; again for each database."),
    ] = None,
    credential: Annotated[
        str, typer.Option("--credential", "-c", help="The login's id, and the name of its secret.")
    ] = "multi-cloud/app_user",
    username: Annotated[str, typer.Option("--username", help="Its username in the database.")] = "app_user",
    region: Annotated[str | None, typer.Option("--region", help="The AWS region.")] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", help="The S3 bucket for the audit log.")] = None,
    mac_key: Annotated[
        str, typer.Option("--mac-key", help="The KMS key that signs the audit log.")
    ] = "alias/lockstep-audit",
    table: Annotated[str, typer.Option("--table", help="The lock table.")] = "lockstep",
    oci_region: Annotated[
        str | None, typer.Option("--oci-region", help="The OCI region.  [default: AWS alone]")
    ] = None,
    compartment: Annotated[
        str | None, typer.Option("--compartment", help="The OCID of the compartment of the rings.")
    ] = None,
    vault: Annotated[
        str | None, typer.Option("--vault", help="The OCID of the vault.  [default: Terraform makes one]")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", help="The Object Storage namespace: `oci os ns get`.")
    ] = None,
    oci_bucket: Annotated[
        str, typer.Option("--oci-bucket", help="The Object Storage bucket for the audit log.")
    ] = "lockstep-audit",
    account: Annotated[
        str | None,
        typer.Option("--account", help="With OCI: the AWS account, which has the OCI runner's role."),
    ] = None,
    domain_url: Annotated[
        str | None,
        typer.Option(
            "--domain-url",
            help="The URL of the identity domain in OCI, which lets the AWS runner in: `oci iam domain list`.",
        ),
    ] = None,
    keys: Annotated[
        bool,
        typer.Option(
            "--keys",
            help="Let the runners reach each other's cloud with long-lived keys instead of sessions.",
        ),
    ] = False,
) -> None:
    """Write a first plan, with comments, and say what comes next.

    It asks for engine, hosts and clouds, and offers what the clouds have: secrets, buckets, keys and networks in AWS,
    vaults and buckets in OCI, as far as your identities may list them. Where they may not, it says so and asks for
    names. It changes nothing in a cloud and asks for no password. OCI is asked as the identity in OCI_CONFIG_FILE. With
    --yes the options say everything, and no cloud is called.

    With OCI the runners reach each other's cloud by sessions, for which each cloud vouches: there is no long-lived key.
    What only the deployment of OCI knows is an example, which `plan check` names. With --keys the plan has keys
    instead, an API key for OCI and an access key for AWS, which you make, store and rotate.

    Beside the plan it writes its JSON Schema, with which editors complete and check it.

    Exit code: 0 written, 1 you ended it, 2 a file exists already, or an answer is missing or not valid.
    """
    schema_file = file.parent / SCHEMA_NAME
    schema = schema_text(plan_schema())
    _refuse_to_replace(file, schema_file, schema, force=force)
    network = None
    if yes:
        needed = {"--database": databases, "--region": region, "--bucket": bucket}
        if oci_region:
            needed |= {"--compartment": compartment, "--namespace": namespace}
        if oci_region and not keys:
            needed |= {"--account": account, "--domain-url": domain_url}
        if missing := [option for option, value in needed.items() if not value]:
            instead = "; or --keys instead of the last" if "--domain-url" in missing else ""
            raise wrong_use(f"with --yes also give {', '.join(missing)}{instead}")
        oci = OciAnswer(
            region=str(oci_region),
            compartment_id=str(compartment),
            vault_id=vault,
            namespace=str(namespace),
            bucket=oci_bucket,
            sessions=None if keys else SessionsAnswer(account=str(account), domain_url=str(domain_url)),
        )
        try:
            servers = distinct([database_of(url) for url in databases or ()])
        except ValueError as error:
            raise wrong_use(f"--database: {error}") from None
        answers = Answers(
            region=str(region),
            table=table,
            bucket=str(bucket),
            mac_key=mac_key,
            databases=servers,
            credential=credential,
            username=username,
            oci=oci if oci_region else None,
        )
    else:
        answers, network = questions(keys=keys)
    text = plan_text(answers)
    try:
        plan = parse_plan(text, base=file.parent, environ={})
    except PlanProblemsError as error:
        raise wrong_use(
            "these answers make no valid plan; nothing was written:", problems=error.problems
        ) from None
    file.write_text(text, encoding="utf-8")
    schema_file.write_text(schema, encoding="utf-8")
    say(f"{file}: written, with {schema_file} for your editor")
    _say_next(file, plan, answers, network)


def _refuse_to_replace(file: Path, schema_file: Path, schema: str, *, force: bool) -> None:
    if force:
        return
    if file.exists():
        raise wrong_use(f"{file} exists; give another name with --plan, or replace it with --force")
    if schema_file.exists() and schema_file.read_bytes() != schema.encode():
        raise wrong_use(f"{schema_file} is that of another version; replace it with --force")


def _say_next(file: Path, plan: Plan, answers: Answers, network: dict[str, Any] | None) -> None:
    """What to do with the plan, in order."""
    steps = []
    if any(missing_ca_files(plan)):
        bundle = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
        steps.append(f"the CAs of RDS:        curl -o {file.parent / CA_FILE} {bundle}")
    sessions = answers.oci.sessions if answers.oci else None
    is_whole = not answers.oci or (answers.oci.vault_id and answers.oci.own_compartment_id and not sessions)
    flag = "" if is_whole else " --before-oci"
    steps.append(f"check it:              lockstep plan check --plan {file}{flag}")
    steps.append(f"accounts, for a DBA:   lockstep plan sql --plan {file} > setup.sql")
    if answers.oci:
        steps.append(f"the OCI side:          make deploy-oci PLAN={file}")
    if not is_whole:
        names = ["vault_id", "own_compartment_id", *(["runners_oci_federation"] if sessions else [])]
        steps.append(f"its outputs:           {', '.join(names)} into {file}")
    if network:
        steps.append(f"in cdk.json:           {json.dumps({'vpc': network})}")
    if sessions:
        steps.append(f"the issuer's keys:     lockstep identity publish --plan {file}")
        steps.append("once for the account:  aws iam enable-outbound-web-identity-federation")
    steps.append(f"the AWS side:          make deploy-aws PLAN={file}")
    if sessions:
        steps.append("the OCI side again:    oci_fn/terraform/README.md#sessions-instead-of-keys")
    say("Next:")
    for i, step in enumerate(steps, 1):
        say(f"  {i}. {step}")
    say(
        "What exists already, such as the bucket, is named in `adopt` of cdk.json. docs/runbook.md explains each step."
    )
