"""How to break what each check of the clouds looks at: the tables of which `test_doctor` makes its tests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.protocol import issuer as documents
from lockstep.protocol.findings import Outcome
from lockstep.protocol.issuer import KEYS, PublicKey
from lockstep.protocol.model import FORMAT
from lockstep.protocol.names import DEFAULT_STACK, FORMAT_OUTPUT, LIVE, announce_rule_name
from sandbox import plans
from sandbox.oci.keys import Key
from sandbox.oci.resources import create_secret
from sandbox.oci.wire import Reply
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE, OCI_KEY_SECRET
from tests.contract.doctor.federated_world import BUCKET, CLIENT_KEY, ROLE, published, trusting, write
from tests.contract.doctor.oci_world import RUNNER, TOPIC, schedule
from tests.contract.doctor.world import CREDENTIAL, World

Act = Callable[[World], object]
"""Breaks something."""

WARNING = Outcome.WARNING
ADMIN = plans.admin_secret("orders")
BLOB = f"{CREDENTIAL}-connection_blob"
SLOT = "multi-cloud.app_user.0"
AWS_KEY = plans.AWS_KEY_SECRET.replace("/", ".")


@dataclass(frozen=True)
class Break:
    """A way to break something.

    Attributes:
        check: The check that must tell it.
        act: Breaks it.
        says: A part of what must be told.
        command: A part of the command that must be named.
    """

    check: str
    act: Act
    says: str
    command: str
    outcome: Outcome = Outcome.FAILED


def call(service: str, operation: str, **arguments: Any) -> Act:  # noqa: ANN401 - of boto3
    """Makes a call."""
    return lambda world: getattr(world.aws.client(service), operation)(**arguments)


# ---- AWS


def _other_account(world: World) -> None:
    audit = dict(world.document["audit"])
    arn = audit["aws"]["mac_key"].replace(world.aws.sandbox.account_id, "999988887777")
    world.replan(audit={**audit, "aws": {**audit["aws"], "mac_key": arn}})


def _wrong_clock(minutes: int) -> Act:
    return lambda world: setattr(world.clock, "by", timedelta(minutes=minutes))


def _store_in_no_region(world: World) -> None:
    first, *others = world.document["stores"]
    world.replan(stores=[{**first, "region": "eu-nowhere-9"}, *others])


def _time_to_live(world: World) -> None:
    setting = {"Enabled": True, "AttributeName": "expires_at"}
    world.aws.client("dynamodb").update_time_to_live(TableName=LOCK_TABLE, TimeToLiveSpecification=setting)


def _record(**attributes: Any) -> Act:  # noqa: ANN401 - of DynamoDB
    return lambda world: world.aws.record(CREDENTIAL, **attributes)


def _no_label(world: World) -> None:
    secrets = world.aws.client("secretsmanager")
    secrets.delete_secret(SecretId=ADMIN, ForceDeleteWithoutRecovery=True)
    secrets.create_secret(Name=ADMIN)


def _key_off(world: World) -> None:
    kms = world.aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    world.aws.client("secretsmanager").update_secret(SecretId=CREDENTIAL, KmsKeyId=key)
    kms.disable_key(KeyId=key)


def _mac_key_off(world: World) -> None:
    world.aws.client("kms").disable_key(KeyId=world.plan.audit.aws.mac_key.rpartition("/")[2])


def _many_versions(world: World) -> None:
    for number in range(85):
        world.aws.client("secretsmanager").put_secret_value(SecretId=BLOB, SecretString=str(number))


def _short_retention(world: World) -> None:
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 1}}
    world.aws.lock_bucket({"ObjectLockEnabled": "Enabled", "Rule": rule})


def _newer_build(world: World) -> None:
    template = json.loads(json.dumps(world.aws.template))
    template["Outputs"][FORMAT_OUTPUT] = {"Value": str(FORMAT + 1)}
    # An update must change a resource too.
    template["Resources"]["Page"]["Properties"]["DisplayName"] = "page"
    world.aws.client("cloudformation").update_stack(
        StackName=DEFAULT_STACK, TemplateBody=json.dumps(template)
    )


def _no_alias(world: World) -> None:
    world.aws.client("stepfunctions").delete_state_machine_alias(stateMachineAliasArn=world.aws.live)


def _no_log(world: World) -> None:
    world.aws.client("stepfunctions").update_state_machine(
        stateMachineArn=world.aws.machine, loggingConfiguration={"level": "OFF", "destinations": []}
    )


def _other_plan(world: World) -> None:
    world.aws.target("1h-00", world.aws.fleet, {"shard": "1h-00", "plan": "d2" * 32})


def _no_fleet(world: World) -> None:
    world.aws.client("stepfunctions").delete_state_machine(stateMachineArn=world.aws.fleet)


def _unpublished(world: World) -> None:
    world.aws.client("s3").delete_object(Bucket=world.aws.place.bucket, Key=world.aws.index)


def _unsubscribe(world: World) -> None:
    sns = world.aws.client("sns")
    for subscription in sns.list_subscriptions()["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])


_ANNOUNCING = announce_rule_name(DEFAULT_STACK)
_OTHER = "0" * 64
OF_AWS: tuple[Break, ...] = (
    Break("aws.identity", _other_account, "999988887777", "AWS_PROFILE"),
    Break("aws.clock", _wrong_clock(-6), "from that of AWS, which refuses", "timedatectl set-ntp true"),
    Break("aws.regions", _store_in_no_region, "no region of this name", "plan check"),
    Break(
        "aws.quotas",
        lambda world: world.aws.sandbox.quotas.update({("lambda", "L-B99A9384"): 2}),
        "2 of 2",
        "L-B99A9384",
        WARNING,
    ),
    Break("aws.lock-table", _time_to_live, "time to live is on", "Enabled=false,AttributeName=expires_at"),
    Break(
        "aws.lock-protection",
        call("dynamodb", "update_table", TableName=LOCK_TABLE, DeletionProtectionEnabled=False),
        "one call can delete it",
        "--deletion-protection-enabled",
        WARNING,
    ),
    Break(
        "aws.active-plan",
        _record(plan={"S": _OTHER}),
        f"the active plan is {_OTHER}",
        f"lockstep plan activate {CREDENTIAL} --from {_OTHER}",
    ),
    Break(
        "aws.orders",
        _record(blocked={"SS": ["orders"]}),
        "orders has refused a login",
        f"lockstep unblock {CREDENTIAL} orders",
    ),
    Break(
        "aws.secrets",
        call("secretsmanager", "delete_secret", SecretId=BLOB),
        "scheduled for deletion",
        f"aws secretsmanager restore-secret --secret-id {BLOB}",
    ),
    Break("aws.secret-labels", _no_label, "AWSCURRENT", "put-secret-value"),
    Break(
        "aws.secret-tags",
        call("secretsmanager", "untag_resource", SecretId=ADMIN, TagKeys=["lockstep:secret"]),
        "lacks lockstep:secret=admin",
        "lockstep secrets tag --stack lockstep --yes",
    ),
    Break("aws.secret-keys", _key_off, "Disabled", "kms enable-key"),
    Break(
        "aws.secret-rotation",
        lambda world: world.aws.rotate_by_aws(CREDENTIAL),
        "own rotation is on",
        f"cancel-rotate-secret --secret-id {CREDENTIAL}",
    ),
    Break("aws.secret-versions", _many_versions, "86 versions", "longer interval", WARNING),
    Break(
        "aws.oci-key",
        call("secretsmanager", "put_secret_value", SecretId=OCI_KEY_SECRET, SecretString="{}"),
        "no API key",
        f"put-secret-value --secret-id {OCI_KEY_SECRET}",
    ),
    Break(
        "aws.audit-bucket",
        call("s3", "delete_bucket", Bucket=AUDIT_BUCKET),
        "no such bucket",
        "make deploy-aws",
    ),
    Break("aws.audit-retention", _short_retention, "for 365 days, and the plan says 400 days", '"Days": 400'),
    Break("aws.audit-key", _mac_key_off, "Disabled", "kms enable-key"),
    Break(
        "aws.rights",
        lambda world: world.aws.sandbox.guard.denied.add("dynamodb:GetItem"),
        "this identity may not",
        '"Action": "dynamodb:GetItem"',
    ),
    Break(
        "aws.stack",
        call("cloudformation", "delete_stack", StackName=DEFAULT_STACK),
        "not deployed",
        "make deploy-aws",
    ),
    Break("aws.build", _newer_build, f"writes format {FORMAT + 1}", "pip install"),
    Break("aws.state-machine", _no_alias, f"no alias {LIVE}", "make deploy-aws"),
    Break("aws.state-machine-log", _no_log, "no log", "make deploy-aws", WARNING),
    Break(
        "aws.functions",
        call("lambda", "delete_function", FunctionName=f"{DEFAULT_STACK}-audit"),
        "not there",
        "make deploy-aws",
    ),
    Break("aws.schedules", _other_plan, "names another published plan", "make deploy-aws"),
    Break("aws.fleet", _no_fleet, "is not there", "make deploy-aws"),
    Break("aws.published-plan", _unpublished, "it is not there", "lockstep plan publish --cloud aws"),
    Break(
        "aws.alarms",
        call("cloudwatch", "disable_alarm_actions", AlarmNames=[f"{DEFAULT_STACK}-Page"]),
        "switched off",
        "enable-alarm-actions --alarm-names lockstep-Page",
    ),
    Break(
        "aws.events",
        call("events", "disable_rule", Name=_ANNOUNCING),
        "is off",
        "enable-rule --name lockstep.announce",
    ),
    Break("aws.alarm-subscribers", _unsubscribe, "nobody", "aws sns subscribe"),
)

# ---- OCI


def _secret(world: World, name: str) -> Any:  # noqa: ANN401 - of the SDK
    client: Any = world.oci.client(oci.vault.VaultsClient)
    for compartment in (world.oci.compartment_id, world.oci.own_compartment_id):
        for found in client.list_secrets(compartment, name=name).data:
            return found
    raise LookupError(name)


def _delete_aws_key(world: World) -> None:
    client: Any = world.oci.client(oci.vault.VaultsClient)
    when = oci.vault.models.ScheduleSecretDeletionDetails(
        time_of_deletion=world.oci.clock.now() + timedelta(days=2)
    )
    client.schedule_secret_deletion(_secret(world, AWS_KEY).id, when)


def _content(name: str, *texts: str) -> Act:
    def act(world: World) -> None:
        client: Any = world.oci.client(oci.vault.VaultsClient)
        ocid = _secret(world, name).id
        for text in texts:
            content = oci.vault.models.Base64SecretContentDetails(content=text, stage="CURRENT")
            client.update_secret(ocid, oci.vault.models.UpdateSecretDetails(secret_content=content))

    return act


def _reads_no_bundles(world: World) -> None:
    world.oci.identity.principal("administrator").is_administrator = False
    world.oci.identity.permit(
        "administrator", "BUCKET_READ", "SECRET_INSPECT", "OBJECT_INSPECT", "OBJECT_READ"
    )


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


def _off(world: World) -> None:
    own = world.oci.own_compartment_id
    world.oci.deployment.schedules = [schedule(own, 10), schedule(own, 30, "INACTIVE"), schedule(own, 50)]


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


OF_OCI: tuple[Break, ...] = (
    Break("oci.identity", _other_namespace, "another tenancy", "OCI_CONFIG_FILE"),
    Break("oci.clock", _wrong_clock(7), "from that of OCI, which refuses", "timedatectl set-ntp true"),
    Break(
        "oci.regions",
        _set("regions", {"eu-zurich-1": "READY"}),
        "not subscribed",
        "region-subscription create",
    ),
    Break("oci.compartments", _set("compartments", {}), "no such compartment", "own_compartment_id"),
    Break(
        "oci.quotas",
        _many_credentials,
        "OCI Vault, secrets of the tenancy",
        "lockstep plan check",
        WARNING,
    ),
    Break(
        "oci.vault",
        lambda world: world.oci.deployment.vault_states.update({world.oci.vault_id: "PENDING_DELETION"}),
        "PENDING_DELETION",
        "kms management vault cancel-deletion",
    ),
    Break("oci.slots", _wider_readers, "no such secret", "make deploy-oci"),
    Break("oci.own-secrets", _delete_aws_key, "scheduled for deletion", "cancel-secret-deletion"),
    Break(
        "oci.rings-alone",
        lambda world: create_secret(world.oci, "payroll", b"x"),
        "no slot of this plan",
        "change-compartment",
        WARNING,
    ),
    Break(
        "oci.slot-versions",
        _content(SLOT, *["eA=="] * 29),
        "30 versions of 30 are in use",
        "larger ring",
    ),
    Break(
        "oci.slot-rotation",
        lambda world: world.oci.vault.rotate_by_itself(SLOT),
        "own rotation is on",
        "oci vault secret update --secret-id",
    ),
    Break(
        "oci.keys",
        lambda world: setattr(world.oci.keys.key(world.oci.key_id), "state", "DISABLED"),
        "DISABLED",
        "kms management key enable",
    ),
    Break("oci.aws-key", _content(AWS_KEY, "e30="), "no access key", "update-base64"),
    Break("oci.runner-key", _no_runner_key, "no such key", "api-key upload"),
    Break(
        "oci.audit-bucket",
        lambda world: world.oci.storage.suspend_versioning(AUDIT_BUCKET),
        "neither versions nor a retention rule",
        "--versioning Enabled",
    ),
    Break("oci.rights", _reads_no_bundles, "may not", "to {SECRET_BUNDLE_READ} in compartment id"),
    Break("oci.function", _set("functions", []), "no standby", "make deploy-oci"),
    Break("oci.schedules", _off, "standby-30 is INACTIVE", "paused = false"),
    Break("oci.alarms", _change("alarms", isEnabled=False), "switched off", "oci monitoring alarm update"),
    Break("oci.alarm-subscribers", _set("subscriptions", []), "nobody has subscribed", f"--topic-id {TOPIC}"),
    Break(
        "oci.events",
        lambda world: world.oci.deployment.topics.pop(),
        "no such topic",
        "events.oci.topic_id",
    ),
)

# ---- Sessions instead of keys


def _other_audience(world: World) -> None:
    runners = world.document["runners"]
    changed = {**runners["oci"]["federation"], "audience": "another"}
    world.replan(runners={**runners, "oci": {"federation": changed}})


def _provider(world: World) -> tuple[str, str]:
    """The issuer, and the ARN of its provider."""
    issuer = str(world.document["runners"]["oci"]["federation"]["issuer"])
    host = issuer.removeprefix("https://")
    return issuer, f"arn:aws:iam::{world.aws.sandbox.account_id}:oidc-provider/{host}"


def _key(world: World) -> Key:
    return world.oci.keys.key(world.document["runners"]["oci"]["federation"]["key"]["id"])


def _client_key_off(world: World) -> None:
    kms = world.aws.client("kms")
    kms.disable_key(KeyId=kms.describe_key(KeyId=CLIENT_KEY)["KeyMetadata"]["KeyId"])


def _trust(world: World, document: dict[str, Any]) -> None:
    policy = json.dumps(document)
    world.aws.client("iam").update_assume_role_policy(RoleName=ROLE, PolicyDocument=policy)


def _any_subject(world: World) -> None:
    issuer, provider = _provider(world)
    found = trusting(provider, issuer)
    del found["Statement"][0]["Condition"]["StringEquals"][f"{issuer.removeprefix('https://')}:sub"]
    _trust(world, found)


def _everybody(world: World) -> None:
    issuer, provider = _provider(world)
    found = trusting(provider, issuer)
    found["Statement"].append({"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"})
    _trust(world, found)


def _another_key(world: World) -> Key:
    return world.oci.keys.new_key(world.oci.own_compartment_id, world.oci.vault_id, name="another")


def _exchanged(world: World) -> None:
    """A key of somebody else under the id of the plan's version."""
    forged = published(_another_key(world).current)
    own = PublicKey(kid=_key(world).current.ocid, modulus=forged.modulus, exponent=forged.exponent)
    write(world.oci, KEYS, documents.key_set([own]))


def _portal(world: World) -> None:
    page = Reply(200, {"content-type": "text/html"}, b"<html>")
    world.oci.faults.replace("exchange_token", reply=page, times=None)


_ROLE_COMMAND = "aws iam get-role --role-name lockstep-oci-runner"
OF_SESSIONS: tuple[Break, ...] = (
    Break(
        "aws.web-identity",
        lambda world: world.aws.sandbox.web_identity.disable(),
        "makes no tokens for others",
        "aws iam enable-outbound-web-identity-federation",
    ),
    Break("aws.client-key", _client_key_off, "Disabled", "aws kms enable-key"),
    Break(
        "aws.oci-issuer",
        _other_audience,
        "it does not take the audience another; it has sts.amazonaws.com",
        "aws iam add-client-id-to-open-id-connect-provider",
    ),
    Break("aws.oci-role", _any_subject, "does not name", "correct the trust policy"),
    Break("aws.oci-role", _everybody, "lets others become it", _ROLE_COMMAND, WARNING),
    Break(
        "oci.issuer-key",
        lambda world: setattr(_key(world).current, "state", "PENDING_DELETION"),
        "it is PENDING_DELETION",
        "kms management key-version cancel-deletion",
    ),
    Break(
        "oci.issuer-bucket",
        lambda world: world.oci.storage.set_public_access(BUCKET, "NoPublicAccess"),
        "not everyone may read it",
        "--public-access-type ObjectReadWithoutList",
    ),
    Break("oci.issuer-documents", _exchanged, "is not the vault's", "--replace"),
    Break("oci.identity-domain", _portal, "what answers there is no identity domain", "domain_url"),
)
