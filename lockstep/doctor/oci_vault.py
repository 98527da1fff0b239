"""Checks of Vault: the vault, the slots of the rings, the secrets that Lockstep only reads, and their keys."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from lockstep.doctor import commands
from lockstep.doctor.checks import Check, with_oci
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.doctor.oci_tenancy import vault_of
from lockstep.plan import Plan
from lockstep.plan_admins import names_in_oci
from lockstep.provision.decide import slots_in_oci
from lockstep.quotas import NEAR
from lockstep.store_kinds.oci_budget import MAX_IN_USE, MAX_PENDING_DELETION
from lockstep.store_kinds.oci_names import oci_name

Untyped = Any
"""A value of the SDK, which ships no types."""
_ALIVE = frozenset({"ACTIVE", "CREATING", "UPDATING"})
_DELETED = frozenset({"PENDING_DELETION", "SCHEDULING_DELETION"})


def slots_of(plan: Plan) -> list[str]:
    """The names of all slots, those included that only readers read."""
    return slots_in_oci(plan, vault_of(plan))


def own_secrets_of(plan: Plan) -> list[str]:
    """The names of the secrets that Lockstep only reads."""
    runner = plan.runners.oci
    names = [*names_in_oci(plan), *runner.secrets.values()] if runner else []
    return [oci_name(name) for name in [*names, *([plan.audit.oci.mac_secret] if plan.audit.oci else [])]]


def secrets_in(context: Context, compartment: str) -> Mapping[str, Untyped]:
    """What Vault says of the secrets of a compartment, by their names."""
    vault = vault_of(context.plan)
    listed = context.oci(
        vault.region, "vault.VaultsClient", "list_secrets", compartment, vault_id=vault.vault_id
    )
    return {secret.secret_name: secret for secret in listed if secret.lifecycle_state != "DELETED"}


def _slots(context: Context) -> Iterator[Untyped]:
    """The slots that are there."""
    found = secrets_in(context, vault_of(context.plan).compartment_id)
    yield from (found[name] for name in slots_of(context.plan) if name in found)


def the_vault(context: Context) -> Iterator[Answer]:
    """The vault is there, and can be used."""
    store = vault_of(context.plan)
    found = context.oci.found(store.region, "key_management.KmsVaultClient", "get_vault", store.vault_id)
    if found is None:
        text = "there is no such vault, or no policy lets you see it"
        yield failed(store.vault_id, text, "lockstep plan check  # then correct vault_id")
    elif found.lifecycle_state != "ACTIVE":
        cancel = commands.oci(
            store.region, "kms management vault cancel-deletion", "--vault-id", store.vault_id
        )
        yield failed(store.vault_id, f"the vault is {found.lifecycle_state}", cancel)
    else:
        yield passed(store.vault_id, "the vault is active")


def slots(context: Context) -> Iterator[Answer]:
    """Each slot of each ring is there, and stays."""
    compartment = vault_of(context.plan).compartment_id
    yield from _are_there(context, compartment, slots_of(context.plan), commands.DEPLOY_OCI)


def own_secrets(context: Context) -> Iterator[Answer]:
    """Each secret that Lockstep only reads is there, and stays."""
    store = vault_of(context.plan)
    for name in own_secrets_of(context.plan):
        make = commands.oci(
            store.region,
            "vault secret create-base64",
            *("--compartment-id", store.compartment_of_own_secrets, "--vault-id", store.vault_id),
            *("--key-id", "KEY", "--secret-name", name, "--secret-content-content", "BASE64"),
        )
        yield from _are_there(context, store.compartment_of_own_secrets, [name], make)


def _are_there(context: Context, compartment: str, names: list[str], make: str) -> Iterator[Answer]:
    found, region = secrets_in(context, compartment), vault_of(context.plan).region
    for name in names:
        secret = found.get(name)
        if secret is None:
            yield failed(name, "there is no such secret in its compartment and vault", make)
        elif secret.lifecycle_state in _DELETED:
            cancel = commands.oci(region, "vault secret cancel-secret-deletion", "--secret-id", secret.id)
            yield failed(name, "it is scheduled for deletion", cancel)
        elif secret.lifecycle_state not in _ALIVE:
            see = commands.oci(region, "vault secret get", "--secret-id", secret.id)
            yield failed(name, f"it is {secret.lifecycle_state}", see)
        else:
            yield passed(name, "it exists")


def alone(context: Context) -> Iterator[Answer]:
    """The rings' compartment holds nothing else: runners may read and write all that is in it."""
    store = vault_of(context.plan)
    known = {*slots_of(context.plan)}
    if store.compartment_of_own_secrets == store.compartment_id:
        known |= {*own_secrets_of(context.plan)}
    found = secrets_in(context, store.compartment_id)
    others = [found[name] for name in sorted(found.keys() - known)]
    for secret in others:
        move = commands.oci(
            store.region,
            "vault secret change-compartment",
            *("--secret-id", secret.id, "--compartment-id", "OTHER"),
        )
        yield warning(
            secret.secret_name, "it is no slot of this plan, and both runners may read and write it", move
        )
    if not others:
        yield passed(store.compartment_id, "it holds the slots of the rings and nothing else")


def _each_slot(context: Context, ask: Callable[[Untyped], Answer]) -> Iterator[Answer]:
    yield from context.clouds.side_by_side([partial(ask, secret) for secret in _slots(context)])


def versions(context: Context) -> Iterator[Answer]:
    """Each slot has room for versions."""
    region = vault_of(context.plan).region

    def look(secret: Untyped) -> Answer:
        found = context.oci(region, "vault.VaultsClient", "list_secret_versions", secret.id)
        pending = sum(version.time_of_deletion is not None for version in found)
        used = len(found) - pending
        text = f"{used} versions of {MAX_IN_USE} are in use, {pending} of {MAX_PENDING_DELETION} pending deletion"
        if used >= MAX_IN_USE or pending >= MAX_PENDING_DELETION:
            return failed(secret.secret_name, text, _LARGER)
        if used >= NEAR * MAX_IN_USE:
            return warning(secret.secret_name, text, _LARGER)
        return passed(secret.secret_name, text)

    yield from _each_slot(context, look)


def rotation(context: Context) -> Iterator[Answer]:
    """Vault's own rotation is off."""
    region = vault_of(context.plan).region

    def look(secret: Untyped) -> Answer:
        config = secret.rotation_config
        if config and config.is_scheduled_rotation_enabled:
            off = commands.oci(
                region,
                "vault secret update",
                *("--secret-id", secret.id, "--rotation-config", '{"isScheduledRotationEnabled": false}'),
            )
            text = "Vault's own rotation is on, which changes the value behind Lockstep's back"
            return failed(secret.secret_name, text, off)
        return passed(secret.secret_name, "only Lockstep rotates it")

    yield from _each_slot(context, look)


def keys(context: Context) -> Iterator[Answer]:
    """Each key that encrypts a secret can be used."""
    store = vault_of(context.plan)
    own = secrets_in(context, store.compartment_of_own_secrets)
    used = [*_slots(context), *(own[name] for name in own_secrets_of(context.plan) if name in own)]
    vault = context.oci(store.region, "key_management.KmsVaultClient", "get_vault", store.vault_id)
    for key, secret in {secret.key_id: secret.secret_name for secret in used}.items():
        found = context.oci.found(
            store.region,
            "key_management.KmsManagementClient",
            "get_key",
            key,
            endpoint=vault.management_endpoint,
        )
        state = found.lifecycle_state if found else None
        if state == "ENABLED":
            yield passed(key, "the key is enabled")
            continue
        act = "cancel-deletion" if state in _DELETED else "enable"
        mend = commands.oci(
            store.region,
            f"kms management key {act}",
            *("--key-id", key, "--endpoint", str(vault.management_endpoint)),
        )
        told = f"the key is {state}" if state else "no policy lets you see the key"
        yield failed(key, f"{told}, and it encrypts {secret}", mend)


_LARGER = "lockstep plan check  # then use a larger ring, or a longer interval"
_NEEDS, _VAULT = "oci.identity", "oci.vault"
CHECKS = (
    Check(
        id="oci.vault",
        title="vault",
        looks_at="whether the vault exists, and is active",
        means="no secret in OCI can be read or written",
        command="oci kms management vault cancel-deletion --vault-id VAULT",
        ask=the_vault,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.slots",
        title="slots of the rings",
        looks_at="whether every slot of every ring exists, is active, and is not to be deleted",
        means="the rotation whose turn it is fails, and readers of a ring miss its value",
        command="make deploy-oci",
        ask=slots,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.own-secrets",
        title="Lockstep's own secrets",
        looks_at="whether the signing key, the access key for AWS and the admins' logins exist, and stay",
        means="the standby cannot run, or its entries cannot be signed",
        command="oci vault secret create-base64 --secret-name NAME",
        ask=own_secrets,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.rings-alone",
        title="rings' compartment",
        looks_at="whether the rings' compartment holds anything else (a warning)",
        means="both runners may read and write secrets of others",
        command="oci vault secret change-compartment --secret-id SECRET --compartment-id OTHER",
        ask=alone,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.slot-versions",
        title="versions of the slots",
        looks_at="how many versions of each slot are in use, and how many pending deletion, of 30 each",
        means="Vault takes no new version of the slot",
        command="lockstep plan check",
        ask=versions,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.slot-rotation",
        title="Vault's own rotation",
        looks_at="whether Vault's own scheduled rotation is on for a slot",
        means="Vault changes the value behind Lockstep's back",
        command="oci vault secret update --secret-id SECRET --rotation-config JSON",
        ask=rotation,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.keys",
        title="keys",
        looks_at="whether each key that encrypts a slot, or a secret of Lockstep's own, is enabled",
        means="the secret can be neither read nor written",
        command="oci kms management key enable --key-id KEY --endpoint ENDPOINT",
        ask=keys,
        needs=_VAULT,
        applies=with_oci,
    ),
)
