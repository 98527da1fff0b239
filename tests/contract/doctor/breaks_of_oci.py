"""What can be wrong in OCI."""

from datetime import UTC, datetime, timedelta
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.protocol.findings import Outcome
from sandbox import plans
from sandbox.oci.resources import create_secret
from sandbox.plans import AUDIT_BUCKET
from tests.contract.doctor.breaking import Act, Break
from tests.contract.doctor.oci_world import RUNNER, TOPIC, schedule
from tests.contract.doctor.world import World

SLOT = "multi-cloud.app_user.0"
AWS_KEY = plans.AWS_KEY_SECRET.replace("/", ".")


def _secret(world: World, name: str) -> Any:  # noqa: ANN401 - of the SDK
    client: Any = world.oci.client(oci.vault.VaultsClient)
    for compartment in (world.oci.compartment_id, world.oci.own_compartment_id):
        for found in client.list_secrets(compartment, name=name).data:
            return found
    raise LookupError(name)


def _delete(name: str) -> Act:
    def act(world: World) -> None:
        client: Any = world.oci.client(oci.vault.VaultsClient)
        when = oci.vault.models.ScheduleSecretDeletionDetails(
            time_of_deletion=datetime.now(UTC) + timedelta(days=2)
        )
        client.schedule_secret_deletion(_secret(world, name).id, when)

    return act


def _content(name: str, *texts: str) -> Act:
    def act(world: World) -> None:
        client: Any = world.oci.client(oci.vault.VaultsClient)
        ocid = _secret(world, name).id
        for text in texts:
            content = oci.vault.models.Base64SecretContentDetails(content=text, stage="CURRENT")
            client.update_secret(ocid, oci.vault.models.UpdateSecretDetails(secret_content=content))

    return act


def _as(permission: str) -> Act:
    """Let the operator have all but this permission."""

    def act(world: World) -> None:
        administrator = world.oci.identity.principal("administrator")
        administrator.is_administrator = False
        world.oci.identity.permit(
            "administrator",
            *(
                {"BUCKET_READ", "SECRET_INSPECT", "SECRET_BUNDLE_READ", "OBJECT_INSPECT", "OBJECT_READ"}
                - {permission}
            ),
        )

    return act


def _set(attribute: str, value: object) -> Act:
    return lambda world: setattr(world.oci.deployment, attribute, value)


def _change(attribute: str, **changes: object) -> Act:
    """Change the first of a list of the deployment."""
    return lambda world: getattr(world.oci.deployment, attribute)[0].update(changes)


def _no_runner_key(world: World) -> None:
    identity = world.oci.identity
    for key in identity.api_keys(identity.principal(RUNNER).ocid):
        identity.unregister(key.key_id)


def _other_namespace(world: World) -> None:
    audit = world.document["audit"]
    world.replan(audit={**audit, "oci": {**audit["oci"], "namespace": "another"}})


def _forget_the_key(world: World) -> None:
    world.oci.identity.delete_api_key(world.oci.config())


def _off(world: World) -> None:
    own = world.oci.own_compartment_id
    world.oci.deployment.schedules = [schedule(own, 10), schedule(own, 30, "INACTIVE"), schedule(own, 50)]


def _too_often(world: World) -> None:
    own = world.oci.own_compartment_id
    world.oci.deployment.schedules += [schedule(own, 15)]


def _wider_readers(world: World) -> None:
    stores = world.document["stores"]
    world.replan(stores=[stores[0], {**stores[1], "readers_ring": 5}])


def _many_credentials(world: World) -> None:
    one = world.document["credentials"][0]
    copies = [
        {**one, "id": f"many/{n}", "username": f"u{n}", "secrets": plans.own_secrets(f"many/{n}")}
        for n in range(1300)
    ]
    world.replan(credentials=copies)


BREAKS_OF_OCI: tuple[Break, ...] = (
    Break(
        check="oci.identity",
        act=_forget_the_key,
        says="OciIdentityRefusedError",
        command="oci iam user api-key list",
        outcome=Outcome.NOT_ASKED,
    ),
    Break(check="oci.identity", act=_other_namespace, says="another tenancy", command="OCI_CONFIG_FILE"),
    Break(
        check="oci.clock",
        act=lambda world: setattr(world.clock, "by", timedelta(minutes=7)),
        says="from that of OCI, which refuses",
        command="timedatectl set-ntp true",
    ),
    Break(
        check="oci.regions",
        act=_set("regions", {"eu-zurich-1": "READY"}),
        says="not subscribed",
        command="region-subscription create",
    ),
    Break(
        check="oci.regions",
        act=_set("regions", {"eu-frankfurt-1": "IN_PROGRESS"}),
        says="IN_PROGRESS",
        command="region-subscription list",
    ),
    Break(
        check="oci.compartments",
        act=lambda world: world.oci.deployment.compartments.update({world.oci.compartment_id: "DELETED"}),
        says="DELETED",
        command="oci iam compartment recover",
    ),
    Break(
        check="oci.compartments",
        act=_set("compartments", {}),
        says="no such compartment",
        command="own_compartment_id",
    ),
    Break(
        check="oci.quotas",
        act=_many_credentials,
        says="OCI Vault, secrets of the tenancy",
        command="lockstep plan check",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="oci.vault",
        act=lambda world: world.oci.deployment.vault_states.update({world.oci.vault_id: "PENDING_DELETION"}),
        says="PENDING_DELETION",
        command="kms management vault cancel-deletion",
    ),
    Break(
        check="oci.slots", act=_delete(SLOT), says="scheduled for deletion", command="cancel-secret-deletion"
    ),
    Break(check="oci.slots", act=_wider_readers, says="no such secret", command="make deploy-oci"),
    Break(
        check="oci.own-secrets",
        act=_delete(AWS_KEY),
        says="scheduled for deletion",
        command="cancel-secret-deletion",
    ),
    Break(
        check="oci.rings-alone",
        act=lambda world: create_secret(world.oci, "payroll", b"x"),
        says="no slot of this plan",
        command="change-compartment",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="oci.slot-versions",
        act=_content(SLOT, *["eA=="] * 24),
        says="25 versions of 30 are in use",
        command="larger ring",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="oci.slot-versions",
        act=_content(SLOT, *["eA=="] * 29),
        says="30 versions of 30 are in use",
        command="larger ring",
    ),
    Break(
        check="oci.slot-rotation",
        act=lambda world: world.oci.vault.rotate_by_itself(SLOT),
        says="own rotation is on",
        command="oci vault secret update --secret-id",
    ),
    Break(
        check="oci.keys",
        act=lambda world: setattr(world.oci.keys.key(world.oci.key_id), "state", "DISABLED"),
        says="DISABLED",
        command="kms management key enable",
    ),
    Break(
        check="oci.keys",
        act=lambda world: setattr(world.oci.keys.key(world.oci.key_id), "state", "PENDING_DELETION"),
        says="PENDING_DELETION",
        command="kms management key cancel-deletion",
    ),
    Break(check="oci.aws-key", act=_content(AWS_KEY, "e30="), says="no access key", command="update-base64"),
    Break(check="oci.runner-key", act=_no_runner_key, says="no such key", command="api-key upload"),
    Break(
        check="oci.audit-bucket",
        act=lambda world: world.oci.storage.suspend_versioning(AUDIT_BUCKET),
        says="neither versions nor a retention rule",
        command="--versioning Enabled",
    ),
    Break(
        check="oci.rights",
        act=_as("SECRET_BUNDLE_READ"),
        says="may not",
        command="to {SECRET_BUNDLE_READ} in compartment id",
    ),
    Break(
        check="oci.rights",
        act=_as("OBJECT_READ"),
        says="may not",
        command="to {OBJECT_READ}",
    ),
    Break(
        check="oci.rights",
        act=_as("OBJECT_INSPECT"),
        says="may not",
        command="to {OBJECT_INSPECT}",
    ),
    Break(check="oci.function", act=_set("functions", []), says="no standby", command="make deploy-oci"),
    Break(
        check="oci.function",
        act=_change("functions", lifecycleState="FAILED"),
        says="FAILED",
        command="make deploy-oci",
    ),
    Break(check="oci.schedules", act=_off, says="standby-30 is INACTIVE", command="paused = false"),
    Break(
        check="oci.schedules",
        act=_set("schedules", []),
        says="no schedule calls the standby",
        command="make deploy-oci",
    ),
    Break(
        check="oci.schedules",
        act=_too_often,
        says="no interval of the plan asks for it",
        command="make deploy-oci",
    ),
    Break(
        check="oci.alarms",
        act=_change("alarms", isEnabled=False),
        says="switched off",
        command="oci monitoring alarm update",
    ),
    Break(check="oci.alarms", act=_set("alarms", []), says="no alarm", command="make deploy-oci"),
    Break(
        check="oci.alarm-subscribers",
        act=_set("subscriptions", []),
        says="nobody has subscribed",
        command=f"--topic-id {TOPIC}",
    ),
    Break(
        check="oci.alarm-subscribers",
        act=_change("subscriptions", lifecycleState="PENDING"),
        says="none of 1 subscriptions is active",
        command="oci ons subscription create",
    ),
    Break(
        check="oci.events",
        act=lambda world: world.oci.deployment.topics.pop(),
        says="no such topic",
        command="events.oci.topic_id",
    ),
    Break(
        check="oci.events",
        act=lambda world: world.oci.deployment.topics[1].update(lifecycleState="DELETING"),
        says="is DELETING",
        command="events.oci.topic_id",
    ),
    Break(
        check="oci.events",
        act=lambda world: world.oci.deployment.topics[1].update(compartmentId=world.oci.compartment_id),
        says="so the function may not publish",
        command="events.oci.compartment_id",
    ),
    Break(
        check="oci.events",
        act=_set("subscriptions", []),
        says="so no event reaches anybody",
        command=f"--topic-id {plans.OciNames.topic_id}",
    ),
)
