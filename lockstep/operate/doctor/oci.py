"""Checks of OCI. What Terraform declares is not compared here: `terraform plan` does that."""

from collections.abc import Iterator, Mapping
from typing import Any

from lockstep.databases.findings import Finding, failed, passed, warning
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Context
from lockstep.operate.secrets import slots_in_oci, unusable_in_oci
from lockstep.plan.admins import names_in_oci
from lockstep.plan.model import Plan
from lockstep.plan.stores import OciVault
from lockstep.protocol.names import oci_name

Untyped = Any
"""A value of the SDK, which ships no types."""

IDENTITY, SECRETS = "oci.identity", "oci.secrets"


def vault_of(plan: Plan) -> OciVault:
    """The plan's store in OCI, without which none of these checks is asked."""
    vault = plan.store(OciVault)
    if vault is None:
        raise LookupError("the plan has no store in OCI")
    return vault


def identity(context: Context) -> Iterator[Finding]:
    """Who asks, whether OCI takes the signature, and whether it is the tenancy of the plan."""
    region, audit = vault_of(context.plan).region, context.plan.audit.oci
    namespace = str(context.oci(region, "object_storage.ObjectStorageClient", "get_namespace"))
    if audit and audit.namespace != namespace:
        says = f"this identity is of another tenancy than the plan, whose namespace is {audit.namespace}"
        fix = "export OCI_CONFIG_FILE=…  # with an identity of that tenancy: oci os ns get"
        yield failed(IDENTITY, f"namespace {namespace}", says, fix)
        return
    user = context.oci.config(region).get("user", "a resource principal")
    yield passed(IDENTITY, f"namespace {namespace}", f"OCI knows this identity as {user}")


# ---- Vault: the slots of the rings, and the secrets that Lockstep only reads


def own_secrets_of(plan: Plan) -> list[str]:
    """The names of the secrets that Lockstep only reads."""
    runner = plan.runners.oci
    names = [*names_in_oci(plan), *runner.secrets.values()] if runner else []
    return [oci_name(name) for name in [*names, *([plan.audit.oci.mac_secret] if plan.audit.oci else [])]]


def secrets(context: Context) -> Iterator[Finding]:
    """Each secret is there, stays, and is changed by nobody else; the rings' compartment holds nothing else."""
    store, slots, own = vault_of(context.plan), slots_in_oci(context.plan), own_secrets_of(context.plan)
    is_shared = store.compartment_of_own_secrets == store.compartment_id
    rings = _secrets_in(context, store.compartment_id)
    others = rings if is_shared else _secrets_in(context, store.compartment_of_own_secrets)
    for name in slots:
        yield _secret(store.region, name, rings.get(name), formatting.DEPLOY_OCI)
    for name in own:
        place = "--compartment-id", store.compartment_of_own_secrets, "--vault-id", store.vault_id
        said = "--key-id", "KEY", "--secret-name", name, "--secret-content-content", "BASE64"
        make = formatting.oci(store.region, "vault secret create-base64", *place, *said)
        yield _secret(store.region, name, others.get(name), make)
    for name in sorted(rings.keys() - {*slots, *(own if is_shared else ())}):
        says = "it is not a slot of this plan, and both runners may read and write it"
        words = "--secret-id", rings[name].id, "--compartment-id", "OTHER"
        yield warning(
            SECRETS, name, says, formatting.oci(store.region, "vault secret change-compartment", *words)
        )


def _secrets_in(context: Context, compartment: str) -> Mapping[str, Untyped]:
    """What Vault says of the secrets of a compartment, by their names."""
    vault = vault_of(context.plan)
    listed = context.oci(
        vault.region, "vault.VaultsClient", "list_secrets", compartment, vault_id=vault.vault_id
    )
    return {secret.secret_name: secret for secret in listed if secret.lifecycle_state != "DELETED"}


def _secret(region: str, name: str, secret: Untyped | None, make: str) -> Finding:
    if secret is None:
        return failed(SECRETS, name, "there is no such secret in its compartment and vault", make)
    if wrong := unusable_in_oci(secret, region):
        return failed(SECRETS, name, *wrong)
    if secret.rotation_config and secret.rotation_config.is_scheduled_rotation_enabled:
        says = "Vault's own rotation is on, which changes the value behind Lockstep's back"
        words = "--secret-id", secret.id, "--rotation-config", '{"isScheduledRotationEnabled": false}'
        return failed(SECRETS, name, says, formatting.oci(region, "vault secret update", *words))
    return passed(SECRETS, name, "it exists")


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
