"""Checks of OCI: identity, clock, secrets, sessions between the clouds, rights to read, schedules.

What Terraform declares is not compared here: `terraform plan` does that.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from lockstep.databases.findings import Answer, failed, not_asked, passed, warning
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Check, Context, skew_answer, with_oci
from lockstep.operate.secrets import slots_in_oci
from lockstep.plan.admins import names_in_oci
from lockstep.plan.compiled import AccessKey, FederationToAws, FederationToOci
from lockstep.plan.model import Plan
from lockstep.plan.stores import OciVault
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    SessionFailure,
    StoreAccessDeniedError,
)
from lockstep.protocol.federation import (
    CONFIGURATION,
    KEYS,
    NotAnIssuerKeyError,
    PublicKey,
    management_endpoint,
    public_key,
    published_keys,
    region_of,
    strangers,
)
from lockstep.protocol.names import oci_name
from lockstep.protocol.strict_json import object_of
from lockstep.runtime.identity import aws_access_key
from lockstep.runtime.issuer import read_document, served_at

Untyped = Any
"""A value of the SDK, which ships no types."""


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
    except EnvironmentalError as error:
        if error.problem is not Environment.CLOCK_SKEW:
            raise
        yield failed("clock", "it is so wrong that OCI refuses the signatures", error.advice.rstrip("."))


# ---- Vault: the slots of the rings, and the secrets that Lockstep only reads

_ALIVE = frozenset({"ACTIVE", "CREATING", "UPDATING"})
_DELETED = frozenset({"PENDING_DELETION", "SCHEDULING_DELETION"})


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


def secrets(context: Context) -> Iterator[Answer]:
    """Each secret is there, stays, and is changed by nobody else; the rings' compartment holds nothing else."""
    store, slots, own = vault_of(context.plan), slots_in_oci(context.plan), own_secrets_of(context.plan)
    rings = secrets_in(context, store.compartment_id)
    for name in slots:
        yield _secret(store.region, name, rings.get(name), formatting.DEPLOY_OCI)
    others = secrets_in(context, store.compartment_of_own_secrets)
    for name in own:
        make = formatting.oci(
            store.region,
            "vault secret create-base64",
            *("--compartment-id", store.compartment_of_own_secrets, "--vault-id", store.vault_id),
            *("--key-id", "KEY", "--secret-name", name, "--secret-content-content", "BASE64"),
        )
        yield _secret(store.region, name, others.get(name), make)
    known = {*slots, *(own if store.compartment_of_own_secrets == store.compartment_id else ())}
    for name in sorted(rings.keys() - known):
        words = ("--secret-id", rings[name].id, "--compartment-id", "OTHER")
        move = formatting.oci(store.region, "vault secret change-compartment", *words)
        yield warning(name, "it is no slot of this plan, and both runners may read and write it", move)


def _secret(region: str, name: str, secret: Untyped | None, make: str) -> Answer:
    if secret is None:
        return failed(name, "there is no such secret in its compartment and vault", make)
    act = partial(formatting.oci, region)
    if secret.lifecycle_state in _DELETED:
        cancel = act("vault secret cancel-secret-deletion", "--secret-id", secret.id)
        return failed(name, "it is scheduled for deletion", cancel)
    if secret.lifecycle_state not in _ALIVE:
        return failed(
            name, f"it is {secret.lifecycle_state}", act("vault secret get", "--secret-id", secret.id)
        )
    if secret.rotation_config and secret.rotation_config.is_scheduled_rotation_enabled:
        off = ("--secret-id", secret.id, "--rotation-config", '{"isScheduledRotationEnabled": false}')
        text = "Vault's own rotation is on, which changes the value behind Lockstep's back"
        return failed(name, text, act("vault secret update", *off))
    return passed(name, "it exists")


def aws_key(context: Context) -> Iterator[Answer]:
    """The access key with which the OCI runner reaches AWS is one."""
    store, runner = vault_of(context.plan), context.plan.runners.oci
    name = oci_name((runner.aws_key_secret if runner else None) or "")
    secret = secrets_in(context, store.compartment_of_own_secrets).get(name)
    if secret is None:
        return  # The subject of `oci.secrets`.
    put = formatting.oci(
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


# ---- Sessions between the clouds: the issuer's documents, and the identity domain

_PUBLISH, _REPLACE = "lockstep identity publish", "lockstep identity publish --replace"


def issuer(context: Context) -> Iterator[Answer]:
    """The documents name the plan's key, and no other, as STS reads them."""
    federation = context.plan.compiled.to_aws
    if not isinstance(federation, FederationToAws):
        return
    base, found = served_at(federation.issuer, context.clouds.endpoints.oci), {}
    for name in (CONFIGURATION, KEYS):
        try:
            found[name] = read_document(f"{base}/{name}", context.clock)
        except EnvironmentalError as error:
            fix = (
                _PUBLISH
                if error.problem is Environment.ISSUER_NOT_PUBLIC
                else f"curl -v {federation.issuer}/{name}"
            )
            text = f"it is not served to everyone: {error.name} ({error.where.get('code')})"
            yield failed(f"{federation.issuer}/{name}", text, fix)
    if CONFIGURATION in found:
        yield _configuration(federation, found[CONFIGURATION])
    if KEYS in found:
        yield from _keys(context, federation, found[KEYS])


def _configuration(federation: FederationToAws, document: bytes) -> Answer:
    subject, says = f"{federation.issuer}/{CONFIGURATION}", object_of(document)
    if says.get("issuer") != federation.issuer:
        return failed(subject, "it is of another issuer, so STS refuses every token", _REPLACE)
    if says.get("jwks_uri") != f"{federation.issuer}/{KEYS}":
        text = "it sends verifiers to another key set than the issuer's: whose keys are there can make tokens"
        return failed(subject, text, _REPLACE)
    return passed(subject, "it is of this issuer, and names its key set")


def _keys(context: Context, federation: FederationToAws, document: bytes) -> Iterator[Answer]:
    subject, named = f"{federation.issuer}/{KEYS}", federation.key.version
    published = published_keys(document)
    if published is None:
        yield failed(subject, "it is no key set", _REPLACE)
        return
    known = {kid: found for kid in {named, *published} if (found := _public_key(context, federation, kid))}
    if named not in published:
        yield failed(subject, f"it does not name {named}, which signs, so STS refuses every token", _PUBLISH)
    elif named not in known:
        text = f"whether its key is that of {named} is not known: the vault shows no RSA key of it"
        yield not_asked(subject, text, "lockstep check  # then correct runners.oci.federation.key")
    elif strangers(document, {named: known[named]}).count(named):
        yield failed(subject, f"its key under {named} is not the vault's", _REPLACE)
    else:
        yield passed(subject, f"it names {named}, with the vault's key")
    for kid in strangers(document, known):
        if kid != named:
            text = f"it names {kid}, which is no version of the key: who has it can make tokens of the OCI runner"
            yield warning(subject, text, _REPLACE)


def _public_key(context: Context, federation: FederationToAws, kid: str) -> PublicKey | None:
    if not kid.startswith("ocid1.keyversion."):
        return None
    key = federation.key
    shown = context.oci.found(
        region_of(key.endpoint) or vault_of(context.plan).region,
        "key_management.KmsManagementClient",
        "get_key_version",
        key.id,
        kid,
        endpoint=context.clouds.endpoints.oci or management_endpoint(key.endpoint),
    )
    try:
        return public_key(kid, str(shown.public_key or "")) if shown else None
    except NotAnIssuerKeyError:
        return None


def domain(context: Context) -> Iterator[Answer]:
    """An identity domain answers at its address. Who it trusts shows `lockstep doctor --in-cloud`, by a session."""
    from lockstep.runtime.federation import domain_answers  # noqa: PLC0415 - it loads the SDK

    federation = context.plan.compiled.to_oci
    if not isinstance(federation, FederationToOci):
        return
    url, look = federation.domain_url, f"curl -v -X POST {federation.domain_url}/oauth2/v1/token"
    try:
        answers = domain_answers(federation, context.clouds)
    except SessionFailure as failure:
        problem = failure.problem or EnvironmentalError(Environment.DOMAIN_UNREACHABLE, code=failure.code)
        yield failed(url, f"no identity domain answers: {problem.name} ({failure.code})", look)
        return
    if answers:
        yield passed(url, "it refuses an empty request as an identity domain does")
    else:
        yield failed(url, "what answers there is no identity domain", f"{look}  # then correct domain_url")


# ---- The standby and its log

FUNCTION = "rotate"
"""The name of the function in `oci_fn/terraform`."""
NO_OBJECT = "oci/doctor"
"""An object that there is not."""
_GONE = frozenset({"DELETING", "DELETED"})


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
    except EnvironmentalError as error:
        if error.problem is not Environment.OCI_ACTION_DENIED:
            raise
        # Who may read is told that there is no such object.
        if not str(error.where.get("code")).endswith("ObjectNotFound"):
            text = "this identity may not, so `status` and `audit verify` cannot tell it all"
            statement = f"Allow group YOURS to {{{permission}}} in compartment id {compartment}"
            words = ["--compartment-id", compartment, "--name", "lockstep-reads", "--description", "reads"]
            create = shlex.join([*words, "--statements", json.dumps([statement])])
            return failed(permission, text, f"oci iam policy create {create}  # docs/iam-oci.md")
    return passed(permission, "this identity may")


def functions_of(context: Context, name: str = FUNCTION) -> list[Untyped]:
    """The functions of a name that Lockstep has there, as the management of functions lists them."""
    store = vault_of(context.plan)
    client = "functions.FunctionsManagementClient"
    own = store.compartment_of_own_secrets
    applications = context.oci(store.region, client, "list_applications", own, display_name=context.name)
    found = (
        context.oci(store.region, client, "list_functions", application.id, display_name=name)
        for application in applications
        if application.lifecycle_state == "ACTIVE"
    )
    return [function for functions in found for function in functions]


def schedules(context: Context) -> Iterator[Answer]:
    """The standby is called."""
    store = vault_of(context.plan)
    listed = context.oci(
        store.region,
        "resource_scheduler.ScheduleClient",
        "list_schedules",
        compartment_id=store.compartment_of_own_secrets,
    )
    functions = {one.id for one in functions_of(context)}
    own = [s for s in listed if functions & {resource.id for resource in s.resources or ()}]
    switch = f"{formatting.DEPLOY_OCI}  # with paused = false in terraform.tfvars"
    there = [s for s in own if s.lifecycle_state not in _GONE]
    if not there:
        yield failed(FUNCTION, "no schedule calls the standby, so it never takes over", switch)
    for schedule in there:
        if schedule.lifecycle_state == "ACTIVE":
            yield passed(schedule.display_name, f"it calls the standby by {schedule.recurrence_details}")
        else:
            yield failed(schedule.display_name, f"it is {schedule.lifecycle_state}", switch)


_NEEDS = "oci.identity"
CHECKS = (
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
        id="oci.secrets",
        title="secrets",
        looks_at="of every slot of every ring, and of the secrets that Lockstep only reads: whether it exists, is "
        "active, is not to be deleted, and Vault's own rotation is off; what else is in the rings' compartment is a "
        "warning",
        means="a rotation fails, readers of a ring miss its value, Vault changes it behind Lockstep's back, or runners "
        "may read secrets of others",
        command="make deploy-oci; oci vault secret create-base64 --secret-name NAME",
        ask=secrets,
        needs=_NEEDS,
        applies=with_oci,
    ),
    Check(
        id="oci.aws-key",
        title="the OCI runner's key for AWS",
        looks_at="where the plan names it: whether the secret holds an access key",
        means="the standby cannot reach AWS, so it never rotates",
        command="oci vault secret update-base64 --secret-id SECRET --secret-content-content BASE64",
        ask=aws_key,
        needs=_NEEDS,
        applies=lambda plan: with_oci(plan) and isinstance(plan.compiled.to_aws, AccessKey),
    ),
    Check(
        id="oci.issuer-documents",
        title="issuer's documents",
        looks_at="with `runners.oci.federation`: both documents, read without an identity as STS reads them: the "
        "issuer, the address of the key set, and in it the plan's version with the vault's key; others are warnings",
        means="STS refuses every token; with a key of somebody else it takes theirs",
        command=_PUBLISH,
        ask=issuer,
        needs=_NEEDS,
        applies=lambda plan: with_oci(plan) and isinstance(plan.compiled.to_aws, FederationToAws),
    ),
    Check(
        id="oci.identity-domain",
        title="identity domain",
        looks_at="with `runners.aws.federation`: whether the domain's token endpoint refuses an empty request in "
        "OAuth's words; its application and its trust are not looked at: `inside.session` uses them",
        means="the AWS runner gets no session in OCI, so no rotation succeeds",
        command="curl -v -X POST DOMAIN_URL/oauth2/v1/token",
        ask=domain,
        applies=lambda plan: with_oci(plan) and isinstance(plan.compiled.to_oci, FederationToOci),
    ),
    Check(
        id="oci.rights",
        title="rights to read",
        looks_at="each read that `status`, `history` and `audit` make in OCI, by trying it",
        means="this identity cannot see the state; rotations do not depend on it",
        command="oci iam policy create --compartment-id COMPARTMENT --name lockstep-reads --statements JSON",
        ask=rights,
        needs=_NEEDS,
        applies=lambda plan: with_oci(plan) and plan.audit.oci is not None,
    ),
    Check(
        id="oci.schedules",
        title="schedules",
        looks_at="whether schedules call the standby's function, and each is on",
        means="the standby does not take over",
        command="make deploy-oci  # with paused = false in terraform.tfvars",
        ask=schedules,
        needs=_NEEDS,
        applies=lambda plan: with_oci(plan) and plan.runners.oci is not None,
    ),
)
