"""Checks of what Terraform has made in OCI for the standby: function, schedules, alarms; and of the audit log there."""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from lockstep.doctor import commands
from lockstep.doctor.checks import Check, with_oci
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed
from lockstep.doctor.oci_tenancy import vault_of
from lockstep.doctor.oci_vault import secrets_in
from lockstep.environment import OciActionDeniedError
from lockstep.plan import Plan
from lockstep.shards import Shard, standby_minutes
from lockstep.store_kinds.oci_names import oci_name

Untyped = Any
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
        yield failed(audit.bucket, text, commands.DEPLOY_OCI)
        return
    rules = context.oci(*where, "list_retention_rules", audit.namespace, audit.bucket)
    if rules:
        yield passed(audit.bucket, "a retention rule keeps its entries")
    elif found.versioning == "Enabled":
        yield passed(audit.bucket, "it keeps every version of an entry")
    else:
        keep = commands.oci(
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
        yield failed(FUNCTION, text, commands.DEPLOY_IMAGE_OCI)
    for one in found:
        if one.lifecycle_state in {"ACTIVE", "UPDATING"}:
            yield passed(FUNCTION, "it is deployed")
        else:
            yield failed(FUNCTION, f"it is {one.lifecycle_state}", commands.DEPLOY_OCI)


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
        switch = f"{commands.DEPLOY_OCI}  # with paused = false in terraform.tfvars"
        yield failed(cron, told, switch)
    for cron in sorted(on.keys() - wanted):
        text = f"{on[cron].display_name} calls the standby when no interval of the plan asks for it"
        yield failed(cron, text, commands.DEPLOY_OCI)


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
        yield failed(context.name, text, commands.DEPLOY_OCI)
    for alarm in found:
        if not alarm.is_enabled:
            enable = commands.oci(
                region, "monitoring alarm update", "--alarm-id", alarm.id, "--is-enabled", "true"
            )
            yield failed(alarm.display_name, "it is switched off", enable)
        elif not alarm.destinations:
            yield failed(alarm.display_name, "it has no destination, so it tells nobody", commands.DEPLOY_OCI)
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
    context: Context, region: str, ocid: str, *, lost: str, mend: str = commands.DEPLOY_OCI
) -> Answer:
    """Whether a topic tells somebody.

    Args:
        context: What may be asked.
        region: Where the topic is.
        ocid: The topic's.
        lost: What reaches nobody if not, such as `no alarm`.
        mend: What gives a topic that can be used.
    """
    topic = topic_of(context, region, ocid)
    if topic is None:
        text = "there is no such topic, or no policy lets you see it"
        return failed(ocid, text, mend)
    if topic.lifecycle_state != "ACTIVE":
        text = f"the topic is {topic.lifecycle_state}, so {lost} reaches anybody"
        return failed(topic.name, text, mend)
    listed = context.oci(
        region, "ons.NotificationDataPlaneClient", "list_subscriptions", topic.compartment_id, topic_id=ocid
    )
    active = [s for s in listed if s.lifecycle_state == "ACTIVE"]
    subscribe = commands.oci(
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


_NEEDS = "oci.identity"
CHECKS = (
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
