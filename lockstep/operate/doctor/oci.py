"""Checks of OCI: tenancy and clock, Vault, the standby's function and schedules, events.

Checks of OCI: the identity, the clock, regions and compartments, the quotas.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Check, Context, skew_answer, with_oci
from lockstep.operate.secrets import slots_in_oci
from lockstep.plan.admins import names_in_oci
from lockstep.plan.limits import NEAR, Verdict, of_oci
from lockstep.plan.model import Plan
from lockstep.plan.stores import OciVault
from lockstep.protocol.errors import ClockSkewError, OciActionDeniedError
from lockstep.protocol.findings import Answer, failed, passed, warning
from lockstep.protocol.names import oci_name
from lockstep.protocol.ring import MAX_IN_USE, MAX_PENDING_DELETION
from lockstep.protocol.schedule import Shard, standby_minutes


def vault_of(plan: Plan) -> OciVault:
    """The plan's store in OCI, without which none of these checks is asked."""
    vault = plan.store(OciVault)
    if vault is None:
        raise LookupError("the plan has no store in OCI")
    return vault


def identity(context: Context) -> Iterator[Answer]:
    """Who asks, whether OCI takes the signature, and whether it is the tenancy of the plan."""
    region, audit = vault_of(context.plan).region, context.plan.audit.oci
    namespace = str(context.oci(region, "object_storage.ObjectStorageClient", "get_namespace"))
    if audit and audit.namespace != namespace:
        yield failed(
            f"namespace {namespace}",
            f"this identity is of another tenancy than the plan, whose namespace is {audit.namespace}",
            "export OCI_CONFIG_FILE=…  # with an identity of that tenancy: oci os ns get",
        )
        return
    user = context.oci.config(region).get("user", "a resource principal")
    yield passed(f"namespace {namespace}", f"OCI knows this identity as {user}")


def clock(context: Context) -> Iterator[Answer]:
    """This clock against that of OCI."""
    region = vault_of(context.plan).region
    try:
        yield skew_answer("OCI", context.clock, lambda: context.oci.time(region))
    except ClockSkewError as error:
        yield failed("clock", "it is so wrong that OCI refuses the signatures", error.advice.rstrip("."))


def regions(context: Context) -> Iterator[Answer]:
    """Whether the tenancy is subscribed to each region of the plan."""
    vault, audit = vault_of(context.plan), context.plan.audit.oci
    tenancy = context.oci.config(vault.region).get("tenancy")
    found = context.oci(vault.region, "identity.IdentityClient", "list_region_subscriptions", tenancy)
    states = {subscription.region_name: subscription.status for subscription in found}
    for region in dict.fromkeys([vault.region, *([audit.region] if audit else [])]):
        state = states.get(region)
        if state == "READY":
            yield passed(region, "the tenancy is subscribed to it")
        elif state is None:
            subscribe = f"oci iam region-subscription create --tenancy-id {tenancy} --region-key KEY"
            yield failed(region, "the tenancy is not subscribed to it", f"{subscribe}  # oci iam region list")
        else:
            see = f"oci iam region-subscription list --tenancy-id {tenancy}"
            yield failed(region, f"the subscription is {state}", see)


def compartments(context: Context) -> Iterator[Answer]:
    """Whether each compartment of the plan is there and in use."""
    vault = vault_of(context.plan)
    for ocid in dict.fromkeys([vault.compartment_id, vault.compartment_of_own_secrets]):
        found = context.oci.found(vault.region, "identity.IdentityClient", "get_compartment", ocid)
        if found is None:
            yield failed(ocid, "there is no such compartment, or no policy lets you see it", _CORRECT)
        elif found.lifecycle_state != "ACTIVE":
            recover = formatting.oci(vault.region, "iam compartment recover", "--compartment-id", ocid)
            yield failed(ocid, f"the compartment is {found.lifecycle_state}", recover)
        else:
            yield passed(ocid, "the compartment is active")


def quotas(context: Context) -> Iterator[Answer]:
    """What the plan needs of each quota."""
    for use in of_oci(context.plan):
        if use.verdict is Verdict.FITS:
            yield passed(use.name, str(use))
        else:
            tell = warning if use.verdict is Verdict.NEAR or use.adjustable else failed
            yield tell(use.name, str(use), f"lockstep plan check  # {use.change}")


_CORRECT = "lockstep plan check  # then correct compartment_id and own_compartment_id"
_NEEDS = "oci.identity"
TENANCY_CHECKS = (
    Check(
        id="oci.identity",
        title="identity in OCI",
        looks_at="whether OCI takes the signatures of the identity here, by default of the AWS runner's key, and its "
        "Object Storage namespace is that of the plan",
        means="nothing in OCI can be looked at, or it would be that of another tenancy",
        command="export OCI_CONFIG_FILE=~/.oci/config",
        ask=identity,
        applies=with_oci,
    ),
    Check(
        id="oci.clock",
        title="clock",
        looks_at="this clock against the Date of an answer of OCI; a minute away is a warning",
        means="OCI refuses signatures that are five minutes off",
        command="timedatectl set-ntp true",
        ask=clock,
        applies=with_oci,
    ),
    Check(
        id="oci.regions",
        title="regions",
        looks_at="whether the tenancy is subscribed to each OCI region of the plan",
        means="no call in that region succeeds",
        command="oci iam region-subscription create --tenancy-id TENANCY --region-key KEY",
        ask=regions,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.compartments",
        title="compartments",
        looks_at="whether the compartments of the rings and of Lockstep's own exist, and are active",
        means="nothing in them can be used",
        command="lockstep plan check",
        ask=compartments,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.quotas",
        title="quotas",
        looks_at="what the plan needs of each quota of a tenancy that has raised none",
        means="a deployment or a rotation is refused, or will be with a few more credentials",
        command="lockstep plan check",
        ask=quotas,
        needs=_NEEDS,
        applies=with_oci,
    ),
)


# Checks of Vault: the vault, the slots of the rings, the secrets that Lockstep only reads, and their keys.

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
        cancel = formatting.oci(
            store.region, "kms management vault cancel-deletion", "--vault-id", store.vault_id
        )
        yield failed(store.vault_id, f"the vault is {found.lifecycle_state}", cancel)
    else:
        yield passed(store.vault_id, "the vault is active")


def slots(context: Context) -> Iterator[Answer]:
    """Each slot of each ring is there, and stays."""
    compartment = vault_of(context.plan).compartment_id
    yield from _are_there(context, compartment, slots_of(context.plan), formatting.DEPLOY_OCI)


def own_secrets(context: Context) -> Iterator[Answer]:
    """Each secret that Lockstep only reads is there, and stays."""
    store = vault_of(context.plan)
    for name in own_secrets_of(context.plan):
        make = formatting.oci(
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
            cancel = formatting.oci(region, "vault secret cancel-secret-deletion", "--secret-id", secret.id)
            yield failed(name, "it is scheduled for deletion", cancel)
        elif secret.lifecycle_state not in _ALIVE:
            see = formatting.oci(region, "vault secret get", "--secret-id", secret.id)
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
        move = formatting.oci(
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
            off = formatting.oci(
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
        fix = formatting.oci(
            store.region,
            f"kms management key {act}",
            *("--key-id", key, "--endpoint", str(vault.management_endpoint)),
        )
        told = f"the key is {state}" if state else "no policy lets you see the key"
        yield failed(key, f"{told}, and it encrypts {secret}", fix)


_LARGER = "lockstep plan check  # then use a larger ring, or a longer interval"
_VAULT = "oci.vault"
VAULT_CHECKS = (
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


# Checks of what Terraform has made in OCI for the standby: function, schedules, alarms; and of the audit log
# there.

"""A value of the SDK, which ships no types."""
FUNCTION = "rotate"
"""The name of the function in `oci_fn/terraform`."""
NO_OBJECT = "oci/doctor"
"""An object that there is not."""
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)


def bucket(context: Context) -> Iterator[Answer]:
    """The bucket is there, and what is in it is kept."""
    audit = context.plan.audit.oci
    if audit is None:
        return
    where = (audit.region, "object_storage.ObjectStorageClient")
    found = context.oci.found(*where, "get_bucket", audit.namespace, audit.bucket)
    if found is None:
        text = "there is no such bucket, or no policy lets you see it"
        yield failed(audit.bucket, text, formatting.DEPLOY_OCI)
        return
    rules = context.oci(*where, "list_retention_rules", audit.namespace, audit.bucket)
    if rules:
        yield passed(audit.bucket, "a retention rule keeps its entries")
    elif found.versioning == "Enabled":
        yield passed(audit.bucket, "it keeps every version of an entry")
    else:
        keep = formatting.oci(
            audit.region,
            "os bucket update",
            *("--namespace", audit.namespace, "--bucket-name", audit.bucket, "--versioning", "Enabled"),
        )
        text = "it has neither versions nor a retention rule, so an entry can be deleted or replaced"
        yield failed(audit.bucket, text, keep)


def rights(context: Context) -> Iterator[Answer]:
    """Tries each read that `status`, `history` and `audit` make of the audit log in OCI."""
    store, audit = vault_of(context.plan), context.plan.audit.oci
    if audit is None:
        return
    storage = (audit.region, "object_storage.ObjectStorageClient")
    place = (audit.namespace, audit.bucket)
    compartment = store.compartment_of_own_secrets
    allowed = partial(_allowed, compartment)
    yield allowed("OBJECT_INSPECT", lambda: context.oci(*storage, "list_objects", *place, limit=1))
    yield allowed("OBJECT_READ", lambda: context.oci(*storage, "get_object", *place, NO_OBJECT))
    if key := secrets_in(context, compartment).get(oci_name(audit.mac_secret)):
        yield allowed("SECRET_BUNDLE_READ", lambda: context.oci.value(store.region, key.id))


def _allowed(compartment: str, permission: str, read: Callable[[], object]) -> Answer:
    try:
        read()
    except OciActionDeniedError as error:
        # Who may read is told that there is no such object.
        if not str(error.where.get("code")).endswith("ObjectNotFound"):
            text = "this identity may not, so `status` and `audit verify` cannot tell it all"
            statement = f"Allow group YOURS to {{{permission}}} in compartment id {compartment}"
            words = ["--compartment-id", compartment, "--name", "lockstep-reads", "--description", "reads"]
            create = shlex.join([*words, "--statements", json.dumps([statement])])
            return failed(permission, text, f"oci iam policy create {create}  # docs/iam-oci.md")
    return passed(permission, "this identity may")


def functions_of(context: Context) -> list[Untyped]:
    """The functions that Lockstep has there, as the management of functions lists them."""
    store = vault_of(context.plan)
    client = "functions.FunctionsManagementClient"
    applications = context.oci(
        store.region,
        client,
        "list_applications",
        store.compartment_of_own_secrets,
        display_name=context.name,
    )
    found = (
        context.oci(store.region, client, "list_functions", application.id, display_name=FUNCTION)
        for application in applications
        if application.lifecycle_state == "ACTIVE"
    )
    return [function for functions in found for function in functions]


def function(context: Context) -> Iterator[Answer]:
    """The function is deployed."""
    found = functions_of(context)
    if not found:
        text = f"the application {context.name} has no function {FUNCTION}, so there is no standby"
        yield failed(FUNCTION, text, formatting.DEPLOY_IMAGE_OCI)
    for one in found:
        if one.lifecycle_state in {"ACTIVE", "UPDATING"}:
            yield passed(FUNCTION, "it is deployed")
        else:
            yield failed(FUNCTION, f"it is {one.lifecycle_state}", formatting.DEPLOY_OCI)


def crons(shards: Iterable[Shard]) -> set[str]:
    """When the standby is called: half an interval after AWS (`oci_fn/terraform/runner/schedules.tf`)."""
    return {f"{minute} * * * *" for minute in standby_minutes(shards)}


def schedules(context: Context) -> Iterator[Answer]:
    """The standby is called, at the minutes that the plan's interval asks for."""
    store = vault_of(context.plan)
    listed = context.oci(
        store.region,
        "resource_scheduler.ScheduleClient",
        "list_schedules",
        compartment_id=store.compartment_of_own_secrets,
    )
    functions = {one.id for one in functions_of(context)}
    own = [s for s in listed if functions & {resource.id for resource in s.resources or ()}]
    on = {s.recurrence_details: s for s in own if s.lifecycle_state == "ACTIVE"}
    wanted = crons(context.plan.shards)
    for cron in sorted(wanted):
        if cron in on:
            yield passed(cron, f"{on[cron].display_name} calls the standby")
            continue
        off = next((s for s in own if s.recurrence_details == cron), None)
        told = f"{off.display_name} is {off.lifecycle_state}" if off else "no schedule calls the standby then"
        switch = f"{formatting.DEPLOY_OCI}  # with paused = false in terraform.tfvars"
        yield failed(cron, told, switch)
    for cron in sorted(on.keys() - wanted):
        text = f"{on[cron].display_name} calls the standby when no interval of the plan asks for it"
        yield failed(cron, text, formatting.DEPLOY_OCI)


def _alarms(context: Context) -> list[Untyped]:
    store = vault_of(context.plan)
    listed = context.oci(
        store.region, "monitoring.MonitoringClient", "list_alarms", store.compartment_of_own_secrets
    )
    return [alarm for alarm in listed if alarm.display_name.startswith(f"{context.name}: ")]


def alarms(context: Context) -> Iterator[Answer]:
    """The standby's alarms are there, on, and tell a topic."""
    region, found = vault_of(context.plan).region, _alarms(context)
    if not found:
        text = "the standby has no alarm, so nobody learns that it fails"
        yield failed(context.name, text, formatting.DEPLOY_OCI)
    for alarm in found:
        if not alarm.is_enabled:
            enable = formatting.oci(
                region, "monitoring alarm update", "--alarm-id", alarm.id, "--is-enabled", "true"
            )
            yield failed(alarm.display_name, "it is switched off", enable)
        elif not alarm.destinations:
            yield failed(
                alarm.display_name, "it has no destination, so it tells nobody", formatting.DEPLOY_OCI
            )
        else:
            yield passed(alarm.display_name, "it is on, and tells a topic")


def subscribers(context: Context) -> Iterator[Answer]:
    """Somebody has confirmed to be told of alarms, on each topic."""
    region = vault_of(context.plan).region
    for topic in sorted({t for alarm in _alarms(context) for t in alarm.destinations or ()}):
        yield subscribed(context, region, topic, lost="no alarm")


def topic_of(context: Context, region: str, ocid: str) -> Untyped | None:
    """A topic; None where it is not there, or may not be seen."""
    return context.oci.found(region, "ons.NotificationControlPlaneClient", "get_topic", ocid)


def subscribed(
    context: Context, region: str, ocid: str, *, lost: str, fix: str = formatting.DEPLOY_OCI
) -> Answer:
    """Whether a topic tells somebody.

    Args:
        context: What may be asked.
        region: Where the topic is.
        ocid: The topic's.
        lost: What reaches nobody if not, such as `no alarm`.
        fix: What gives a topic that can be used.
    """
    topic = topic_of(context, region, ocid)
    if topic is None:
        text = "there is no such topic, or no policy lets you see it"
        return failed(ocid, text, fix)
    if topic.lifecycle_state != "ACTIVE":
        text = f"the topic is {topic.lifecycle_state}, so {lost} reaches anybody"
        return failed(topic.name, text, fix)
    listed = context.oci(
        region, "ons.NotificationDataPlaneClient", "list_subscriptions", topic.compartment_id, topic_id=ocid
    )
    active = [s for s in listed if s.lifecycle_state == "ACTIVE"]
    subscribe = formatting.oci(
        region,
        "ons subscription create",
        *("--compartment-id", topic.compartment_id, "--topic-id", ocid),
        *("--protocol", "EMAIL", "--subscription-endpoint", "YOU@EXAMPLE.COM"),
    )
    if active:
        return passed(topic.name, f"{len(active)} active subscriptions")
    if not listed:
        return failed(topic.name, f"nobody has subscribed to it, so {lost} reaches anybody", subscribe)
    text = (
        f"none of {len(listed)} subscriptions is active; confirm by the link in the mail, or subscribe again"
    )
    return failed(topic.name, text, subscribe)


def with_standby(plan: Plan) -> bool:
    """Whether OCI runs rotations."""
    return with_oci(plan) and plan.runners.oci is not None


def with_audit(plan: Plan) -> bool:
    """Whether there is an audit log in OCI."""
    return with_oci(plan) and plan.audit.oci is not None


RUNNER_CHECKS = (
    Check(
        id="oci.audit-bucket",
        title="audit bucket",
        looks_at="whether the bucket exists, and has versions or a retention rule",
        means="the standby's rotations end without their entries, or these can be deleted",
        command="make deploy-oci",
        ask=bucket,
        needs=_NEEDS,
        applies=with_audit,
    ),
    Check(
        id="oci.rights",
        title="rights to read",
        looks_at="each read that `status`, `history` and `audit` make in OCI, by trying it",
        means="this identity cannot see the state; rotations do not depend on it",
        command="oci iam policy create --compartment-id COMPARTMENT --name lockstep-reads --statements JSON",
        ask=rights,
        needs="oci.audit-bucket",
        applies=with_audit,
    ),
    Check(
        id="oci.function",
        title="function",
        looks_at="whether the standby's function is deployed, and active",
        means="there is no standby: if AWS fails, nothing rotates",
        command="make deploy-oci",
        ask=function,
        needs=_NEEDS,
        applies=with_standby,
    ),
    Check(
        id="oci.schedules",
        title="schedules",
        looks_at="whether a schedule that is on calls the function at each minute that the plan's interval asks for",
        means="the standby does not take over in time",
        command="make deploy-oci  # with paused = false in terraform.tfvars",
        ask=schedules,
        needs="oci.function",
        applies=with_standby,
    ),
    Check(
        id="oci.alarms",
        title="alarms",
        looks_at="whether the standby has alarms, and each is on and tells a topic",
        means="nobody learns that the standby fails",
        command="oci monitoring alarm update --alarm-id ALARM --is-enabled true",
        ask=alarms,
        needs=_NEEDS,
        applies=with_standby,
    ),
    Check(
        id="oci.alarm-subscribers",
        title="subscribers of the alarms",
        looks_at="whether each topic of the alarms has an active subscription",
        means="alarms reach nobody",
        command="oci ons subscription create --topic-id TOPIC --protocol EMAIL --subscription-endpoint YOU@EXAMPLE.COM",
        ask=subscribers,
        needs=_NEEDS,
        applies=with_standby,
    ),
)


# The check of the topic to which the OCI runner, and operators, send events.

_OCI_EVENTS_CORRECT = (
    "lockstep plan check  # then correct events.oci.topic_id: Terraform makes no topic for events"
)


def events(context: Context) -> Iterator[Answer]:
    """The topic is there, where the policy lets the function publish, and somebody is told."""
    named = context.plan.events.oci if context.plan.events else None
    if named is None:
        return
    topic = topic_of(context, named.region, named.topic_id)
    if topic is not None and topic.compartment_id != named.compartment_id:
        text = (
            f"it is in {topic.compartment_id}, and the plan says {named.compartment_id}, so the function may not "
            "publish"
        )
        yield failed(topic.name, text, "lockstep plan check  # then correct events.oci.compartment_id")
        return
    yield subscribed(context, named.region, named.topic_id, lost="no event", fix=_OCI_EVENTS_CORRECT)


def _with_topic(plan: Plan) -> bool:
    return with_oci(plan) and plan.events is not None and plan.events.oci is not None


OCI_EVENT_CHECKS = (
    Check(
        id="oci.events",
        title="events",
        looks_at="where the plan names a topic: whether it exists in the plan's compartment, is active, and has an "
        "active subscription",
        means="no event of a run in OCI reaches anybody; rotations do not depend on it",
        command="oci ons subscription create --topic-id TOPIC --protocol EMAIL --subscription-endpoint YOU@EXAMPLE.COM",
        ask=events,
        needs="oci.identity",
        applies=_with_topic,
    ),
)
