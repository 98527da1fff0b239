"""Checks of both clouds.

What CDK and Terraform declare is not compared here: `cdk diff`, `cdk drift` and `terraform plan` do that.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from lockstep.databases.findings import Finding, failed, passed, warning
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Context
from lockstep.operate.secrets import (
    ROTATED,
    Action,
    StackTerms,
    Wanted,
    in_aws,
    slots_in_oci,
    unusable_in_oci,
    wanted,
)
from lockstep.operate.verdict import lockstep
from lockstep.plan.credentials import names_in_oci
from lockstep.plan.model import Plan
from lockstep.plan.stores import OciVault
from lockstep.protocol.names import oci_name

# AWS

IDENTITY_AWS, SECRETS_AWS = "aws.identity", "aws.secrets"
_ACCOUNT = 4
"""The place of the account in an ARN."""


def identity_in_aws(context: Context) -> Iterator[Finding]:
    """Who asks, and whether it is in the account that the plan's ARNs name."""
    caller = context.aws("sts", "get_caller_identity")
    account, arn = str(caller.get("Account", "?")), caller.get("Arn", "?")
    key = context.plan.audit.aws.mac_key
    named = key.split(":")[_ACCOUNT] if key.startswith("arn:") else account
    if named == account:
        yield passed(IDENTITY_AWS, f"account {account}", f"AWS knows this identity as {arn}")
        return
    says = f"the plan's signing key is in account {named}, but these credentials belong to {account}"
    fix = "export AWS_PROFILE=…  # one of that account: aws configure list-profiles"
    yield failed(IDENTITY_AWS, f"account {account}", says, fix)


def secrets_in_aws(context: Context) -> Iterator[Finding]:
    """Each secret exists and stays, can be read, may be used by the functions, and is rotated by nobody else."""
    for found in context.clouds.side_by_side(
        [partial(_secret_in_aws, context, one) for one in wanted(context.plan)]
    ):
        yield from found


def _secret_in_aws(context: Context, one: Wanted) -> list[Finding]:
    return list(_wrong(context, one)) or [passed(SECRETS_AWS, one.name, "it exists, and can be used")]


def _wrong(context: Context, one: Wanted) -> Iterator[Finding]:
    """What `lockstep secrets tag` says of a secret, and whether it can be read."""
    found = context.aws.found("secretsmanager", "describe_secret", region=one.region, SecretId=one.name)
    decision = in_aws(one, found, StackTerms(stack=context.stack), consent=True)
    act, secret = partial(formatting.aws, one.region), ("--secret-id", one.name)
    if decision.action is Action.TAG:
        lacking = ", ".join(f"{key}={value}" for key, value in decision.tags.items())
        tag = lockstep("secrets", "tag", "--stack", context.stack, "--yes")
        yield failed(SECRETS_AWS, one.name, f"it lacks {lacking}, so no function may use it", tag)
    elif decision.action is not Action.NOTHING:
        see = act("secretsmanager describe-secret", *secret)
        yield failed(SECRETS_AWS, one.name, "; ".join(decision.problems), decision.command or see)
    if found is None:
        return
    if not any("AWSCURRENT" in labels for labels in found.get("VersionIdsToStages", {}).values()):
        first = '{"placeholder": true}' if one.kind in ROTATED else "file://secret.json"
        put = act("secretsmanager put-secret-value", *secret, "--secret-string", first)
        yield failed(
            SECRETS_AWS, one.name, "no version of it has the label AWSCURRENT, so nobody can read it", put
        )
    if regions := [replica["Region"] for replica in found.get("ReplicationStatus", ())]:
        words = *secret, "--remove-replica-regions", *regions
        end = act("secretsmanager remove-regions-from-replication", *words)
        says = (
            f"it is replicated to {', '.join(regions)}, where no run sees whether readers get a value in time"
        )
        yield warning(SECRETS_AWS, one.name, says, end)


# OCI

Untyped = Any
"""A value of the SDK, which ships no types."""

IDENTITY_OCI, SECRETS_OCI = "oci.identity", "oci.secrets"


def vault_of(plan: Plan) -> OciVault:
    """The plan's store in OCI, without which none of these checks is asked."""
    vault = plan.store(OciVault)
    if vault is None:
        raise LookupError("the plan has no store in OCI")
    return vault


def identity_in_oci(context: Context) -> Iterator[Finding]:
    """Who asks, whether OCI takes the signature, and whether it is the tenancy of the plan."""
    region, audit = vault_of(context.plan).region, context.plan.audit.oci
    namespace = str(context.oci(region, "object_storage.ObjectStorageClient", "get_namespace"))
    if audit and audit.namespace != namespace:
        says = f"this identity is of another tenancy than the plan, whose namespace is {audit.namespace}"
        fix = "export OCI_CONFIG_FILE=…  # with an identity of that tenancy: oci os ns get"
        yield failed(IDENTITY_OCI, f"namespace {namespace}", says, fix)
        return
    user = context.oci.config(region).get("user", "a resource principal")
    yield passed(IDENTITY_OCI, f"namespace {namespace}", f"OCI knows this identity as {user}")


# ---- Vault: the slots of the rings, and the secrets that Lockstep only reads


def own_secrets_of(plan: Plan) -> list[str]:
    """The names of the secrets that Lockstep only reads."""
    runner = plan.runners.oci
    names = [*names_in_oci(plan), *runner.secrets.values()] if runner else []
    return [oci_name(name) for name in [*names, *([plan.audit.oci.mac_secret] if plan.audit.oci else [])]]


def secrets_in_oci(context: Context) -> Iterator[Finding]:
    """Each secret is there, stays, and is changed by nobody else; the rings' compartment holds nothing else."""
    store, slots, own = vault_of(context.plan), slots_in_oci(context.plan), own_secrets_of(context.plan)
    is_shared = store.compartment_of_own_secrets == store.compartment_id
    rings = _secrets_in(context, store.compartment_id)
    others = rings if is_shared else _secrets_in(context, store.compartment_of_own_secrets)
    for name in slots:
        yield _slot(store.region, name, rings.get(name), formatting.DEPLOY_OCI)
    for name in own:
        place = "--compartment-id", store.compartment_of_own_secrets, "--vault-id", store.vault_id
        said = "--key-id", "KEY", "--secret-name", name, "--secret-content-content", "BASE64"
        make = formatting.oci(store.region, "vault secret create-base64", *place, *said)
        yield _slot(store.region, name, others.get(name), make)
    for name in sorted(rings.keys() - {*slots, *(own if is_shared else ())}):
        says = "it is not a slot of this plan, and both runners may read and write it"
        words = "--secret-id", rings[name].id, "--compartment-id", "OTHER"
        yield warning(
            SECRETS_OCI, name, says, formatting.oci(store.region, "vault secret change-compartment", *words)
        )


def _secrets_in(context: Context, compartment: str) -> Mapping[str, Untyped]:
    """What Vault says of the secrets of a compartment, by their names."""
    vault = vault_of(context.plan)
    listed = context.oci(
        vault.region, "vault.VaultsClient", "list_secrets", compartment, vault_id=vault.vault_id
    )
    return {secret.secret_name: secret for secret in listed if secret.lifecycle_state != "DELETED"}


def _slot(region: str, name: str, secret: Untyped | None, make: str) -> Finding:
    if secret is None:
        return failed(SECRETS_OCI, name, "there is no such secret in its compartment and vault", make)
    if wrong := unusable_in_oci(secret, region):
        return failed(SECRETS_OCI, name, *wrong)
    if secret.rotation_config and secret.rotation_config.is_scheduled_rotation_enabled:
        says = "Vault's own rotation is on, which changes the value behind Lockstep's back"
        words = "--secret-id", secret.id, "--rotation-config", '{"isScheduledRotationEnabled": false}'
        return failed(SECRETS_OCI, name, says, formatting.oci(region, "vault secret update", *words))
    return passed(SECRETS_OCI, name, "it exists")


def functions_of(context: Context, name: str) -> list[Untyped]:
    """The functions of a name that Lockstep has there, as the management of functions lists them."""
    store, client = vault_of(context.plan), "functions.FunctionsManagementClient"
    own = store.compartment_of_own_secrets
    applications = context.oci(store.region, client, "list_applications", own, display_name=context.name)
    return [
        function
        for application in applications
        if application.lifecycle_state == "ACTIVE"
        for function in context.oci(store.region, client, "list_functions", application.id, display_name=name)
    ]
