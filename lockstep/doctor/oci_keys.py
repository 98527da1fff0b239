"""Checks of the long-lived keys by which the runners reach the other cloud, where a plan names them."""

from collections.abc import Iterator

from lockstep.doctor import commands
from lockstep.doctor.checks import Check, with_oci
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed
from lockstep.doctor.oci_tenancy import vault_of
from lockstep.doctor.oci_vault import secrets_in
from lockstep.errors import StoreAccessDeniedError
from lockstep.identity import aws_access_key, oci_api_key
from lockstep.plan import Plan
from lockstep.store_kinds.oci_names import oci_name


def aws_key(context: Context) -> Iterator[Answer]:
    """The access key with which the OCI runner reaches AWS is one."""
    store, runner = vault_of(context.plan), context.plan.runners.oci
    name = oci_name((runner.aws_key_secret if runner else None) or "")
    secret = secrets_in(context, store.compartment_of_own_secrets).get(name)
    if secret is None:
        return  # The subject of `oci.own-secrets`.
    put = commands.oci(
        store.region,
        "vault secret update-base64",
        *("--secret-id", secret.id, "--secret-content-content", "BASE64"),
    )
    try:
        aws_access_key(context.oci.value(store.region, secret.id), store="oci", secret=name)
    except StoreAccessDeniedError:
        text = "it is no access key of AWS: a JSON object with access_key_id and secret_access_key"
        yield failed(name, text, put)
        return
    yield passed(name, "it is an access key")


def runner_keys(context: Context) -> Iterator[Answer]:
    """The AWS runner's API keys are registered with their users in OCI, and active."""
    runner, region = context.plan.runners.aws, vault_of(context.plan).region
    names = [name for name in (runner.oci_key_secret, runner.oci_reader_key_secret) if name]
    for name in dict.fromkeys(names):
        text = context.aws.value(name, context.plan.compiled.region_of(name))
        try:
            key = oci_api_key(text, store="aws", secret=name).config
        except StoreAccessDeniedError:
            continue  # The subject of `aws.oci-key`.
        user, fingerprint = key["user"], key["fingerprint"]
        listed = context.oci(region, "identity.IdentityClient", "list_api_keys", user)
        state = next((k.lifecycle_state for k in listed if k.fingerprint == fingerprint), None)
        if state == "ACTIVE":
            yield passed(name, f"its user in OCI has this key, among {len(listed)}")
            continue
        upload = f"oci iam user api-key upload --user-id {user} --key-file PUBLIC_KEY.pem"
        told = f"the key is {state}" if state else "its user in OCI has no such key"
        yield failed(name, f"{told} ({fingerprint})", upload)


def with_access_key(plan: Plan) -> bool:
    """Whether the standby reaches AWS with a key."""
    return with_oci(plan) and plan.runners.oci is not None and plan.runners.oci.aws_key_secret is not None


def with_api_key(plan: Plan) -> bool:
    """Whether the AWS runner reaches OCI with a key."""
    return with_oci(plan) and plan.runners.aws.oci_key_secret is not None


_NEEDS = "oci.identity"
CHECKS = (
    Check(
        id="oci.aws-key",
        title="the OCI runner's key for AWS",
        looks_at="where the plan names it: whether the secret holds an access key",
        means="the standby cannot reach AWS, so it never rotates",
        command="oci vault secret update-base64 --secret-id SECRET --secret-content-content BASE64",
        ask=aws_key,
        needs=_NEEDS,
        applies=with_access_key,
    ),
    Check(
        id="oci.runner-key",
        title="the AWS runner's users in OCI",
        looks_at="where the plan names API keys: whether the user of each has it, and it is active",
        means="the AWS runner cannot reach OCI, so no rotation succeeds",
        command="oci iam user api-key upload --user-id USER --key-file PUBLIC_KEY.pem",
        ask=runner_keys,
        needs=_NEEDS,
        applies=with_api_key,
    ),
)
