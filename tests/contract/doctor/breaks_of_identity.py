"""What can be wrong with sessions instead of keys."""

import json
from collections.abc import Callable
from typing import Any

from lockstep.protocol import issuer as documents
from lockstep.protocol.findings import Outcome
from lockstep.protocol.issuer import CONFIGURATION, KEYS
from sandbox.oci.keys import Key
from sandbox.oci.wire import Reply
from sandbox.plans import OCI_KEY_SECRET
from tests.contract.doctor.breaking import Act, Break
from tests.contract.doctor.federated_world import (
    BUCKET,
    CLIENT_KEY,
    ENDPOINT,
    ROLE,
    published,
    trusting,
    write,
)
from tests.contract.doctor.world import World

READER = {"oci_key_secret": OCI_KEY_SECRET, "oci_reader_key_secret": "lockstep/oci-reader"}
_NO_KEY = {"version": "ocid1.keyversion.oc1.eu.none", "endpoint": ENDPOINT}


def _federation(world: World, runner: str) -> dict[str, Any]:
    found: dict[str, Any] = world.document["runners"][runner]["federation"]
    return found


def _replan(runner: str, **changes: object) -> Act:
    """Change the way of a runner in the plan file."""

    def act(world: World) -> None:
        runners = world.document["runners"]
        changed = {**_federation(world, runner), **changes}
        world.replan(runners={**runners, runner: {"federation": changed}})

    return act


def _issuer(world: World) -> str:
    return str(_federation(world, "oci")["issuer"])


def _provider_arn(world: World) -> str:
    host = _issuer(world).removeprefix("https://")
    return f"arn:aws:iam::{world.aws.sandbox.account_id}:oidc-provider/{host}"


def _key(world: World) -> Key:
    return world.oci.keys.key(_federation(world, "oci")["key"]["id"])


def _other_spec(world: World) -> None:
    kms = world.aws.client("kms")
    key = kms.create_key(KeySpec="RSA_4096", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.update_alias(AliasName=CLIENT_KEY, TargetKeyId=key)


def _client_key_off(world: World) -> None:
    kms = world.aws.client("kms")
    kms.disable_key(KeyId=kms.describe_key(KeyId=CLIENT_KEY)["KeyMetadata"]["KeyId"])


def _no_provider(world: World) -> None:
    world.aws.client("iam").delete_open_id_connect_provider(OpenIDConnectProviderArn=_provider_arn(world))


def _trust(change: Callable[[World], dict[str, Any]]) -> Act:
    def act(world: World) -> None:
        document = json.dumps(change(world))
        world.aws.client("iam").update_assume_role_policy(RoleName=ROLE, PolicyDocument=document)

    return act


def _another_subject(world: World) -> dict[str, Any]:
    issuer = _issuer(world)
    return trusting(_provider_arn(world), issuer, **{f"{issuer.removeprefix('https://')}:sub": "another"})


def _any_subject(world: World) -> dict[str, Any]:
    found = trusting(_provider_arn(world), _issuer(world))
    said = found["Statement"][0]["Condition"]["StringEquals"]
    del said[f"{_issuer(world).removeprefix('https://')}:sub"]
    return found


def _others(world: World) -> dict[str, Any]:
    found = trusting(_provider_arn(world), _issuer(world))
    person = {"AWS": f"arn:aws:iam::{world.aws.sandbox.account_id}:root"}
    found["Statement"].append({"Effect": "Allow", "Principal": person, "Action": "sts:AssumeRole"})
    return found


def _everybody(world: World) -> dict[str, Any]:
    found = trusting(_provider_arn(world), _issuer(world))
    found["Statement"].append({"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"})
    return found


def _long_sessions(world: World) -> None:
    world.aws.client("iam").update_role(RoleName=ROLE, MaxSessionDuration=12 * 3600)


def _state(state: str) -> Act:
    return lambda world: setattr(_key(world), "state", state)


def _version_state(state: str) -> Act:
    return lambda world: setattr(_key(world).current, "state", state)


def _configured(**changes: str) -> Act:
    def act(world: World) -> None:
        document = {**json.loads(documents.configuration(_issuer(world))), **changes}
        write(world.oci, CONFIGURATION, json.dumps(document).encode())

    return act


def _another_key(world: World) -> Key:
    return world.oci.keys.new_key(world.oci.own_compartment_id, world.oci.vault_id, name="another")


def _stranger(world: World) -> None:
    own, other = _key(world).current, _another_key(world).current
    write(world.oci, KEYS, documents.key_set([published(own), published(other)]))


def _only_a_stranger(world: World) -> None:
    write(world.oci, KEYS, documents.key_set([published(_another_key(world).current)]))


def _exchanged(world: World) -> None:
    """A key of somebody else under the id of the plan's version."""
    forged = published(_another_key(world).current)
    own = _key(world).current.ocid
    write(
        world.oci,
        KEYS,
        documents.key_set([documents.PublicKey(kid=own, modulus=forged.modulus, exponent=forged.exponent)]),
    )


def _twice(world: World) -> None:
    """Two key sets in one document, of which each verifier believes the one or the other."""
    own, other = (documents.key_set([published(key.current)]) for key in (_key(world), _another_key(world)))
    write(world.oci, KEYS, other.rstrip(b"}\n") + b"," + own.lstrip(b"{"))


def _client_secret(text: str) -> Act:
    def act(world: World) -> None:
        world.aws.client("secretsmanager").create_secret(Name="lockstep/oci-client", SecretString=text)
        _replan("aws", client={"secret": "lockstep/oci-client"})(world)

    return act


def _reader_key(world: World, text: str) -> None:
    world.aws.client("secretsmanager").create_secret(Name=READER["oci_reader_key_secret"], SecretString=text)
    world.replan(runners={**world.document["runners"], "aws": READER})


def _reader(world: World) -> None:
    _reader_key(world, "{}")


def _reader_of_nobody(world: World) -> None:
    """A key that its user does not have any more."""
    key = world.oci.new_api_key("lockstep-aws-reader")
    fields = {name: key[name] for name in ("tenancy", "user", "fingerprint", "region")}
    world.oci.identity.delete_api_key(key)
    _reader_key(world, json.dumps({**fields, "private_key": key["key_content"]}))


def _portal(world: World) -> None:
    page = Reply(200, {"content-type": "text/html"}, b"<html>")
    world.oci.faults.replace("exchange_token", reply=page, times=None)


def _silence(world: World) -> None:
    world.oci.faults.drop_request("exchange_token", times=None)


BREAKS_OF_KEYS: tuple[Break, ...] = (
    Break(
        check="aws.oci-key",
        act=_reader,
        says="it is no API key of OCI",
        command="put-secret-value --secret-id lockstep/oci-reader",
    ),
    Break(check="oci.runner-key", act=_reader_of_nobody, says="no such key", command="api-key upload"),
)
BREAKS_OF_IDENTITY: tuple[Break, ...] = (
    Break(
        check="aws.web-identity",
        act=lambda world: world.aws.sandbox.web_identity.disable(),
        says="makes no tokens for others",
        command="aws iam enable-outbound-web-identity-federation",
    ),
    Break(
        check="aws.oci-key",
        act=_client_secret('{"client": "x"}'),
        says="it is no client secret",
        command="put-secret-value --secret-id lockstep/oci-client",
    ),
    Break(check="aws.client-key", act=_other_spec, says="a key of RSA_4096", command="client.kms_key"),
    Break(check="aws.client-key", act=_client_key_off, says="Disabled", command="aws kms enable-key"),
    Break(
        check="aws.client-key",
        act=_replan("aws", client={"kms_key": "alias/another", "certificate": "lockstep"}),
        says="no such key",
        command="make deploy-aws",
    ),
    Break(
        check="aws.oci-issuer", act=_no_provider, says="there is no such provider", command="make deploy-aws"
    ),
    Break(
        check="aws.oci-issuer",
        act=_replan("oci", audience="another"),
        says="it does not take the audience another; it has sts.amazonaws.com",
        command="aws iam add-client-id-to-open-id-connect-provider",
    ),
    Break(
        check="aws.oci-issuer",
        act=_replan("oci", role_arn="arn:aws:iam::999988887777:role/lockstep-oci-runner"),
        says="it is in account 999988887777",
        command="AWS_PROFILE",
        outcome=Outcome.NOT_ASKED,
    ),
    Break(
        check="aws.oci-role",
        act=lambda world: world.aws.client("iam").delete_role(RoleName=ROLE),
        says="there is no such role",
        command="make deploy-aws",
    ),
    Break(
        check="aws.oci-role",
        act=_trust(_another_subject),
        says="does not name",
        command="correct the trust policy",
    ),
    Break(
        check="aws.oci-role",
        act=_trust(_any_subject),
        says="does not name",
        command="correct the trust policy",
    ),
    Break(
        check="aws.oci-role",
        act=_trust(_others),
        says="lets others become it",
        command="aws iam get-role --role-name lockstep-oci-runner",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.oci-role",
        act=_trust(_everybody),
        says="lets others become it",
        command="aws iam get-role --role-name lockstep-oci-runner",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.oci-role",
        act=_long_sessions,
        says="sessions of 12:00:00",
        command="--max-session-duration 3600",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="oci.issuer-key",
        act=_state("DISABLED"),
        says="it is DISABLED",
        command="kms management key enable",
    ),
    Break(
        check="oci.issuer-key",
        act=_state("PENDING_DELETION"),
        says="it is PENDING_DELETION",
        command="kms management key cancel-deletion",
    ),
    Break(
        check="oci.issuer-key",
        act=_version_state("PENDING_DELETION"),
        says="it is PENDING_DELETION",
        command="kms management key-version cancel-deletion",
    ),
    Break(
        check="oci.issuer-key",
        act=_version_state("DISABLED"),
        says="the version is DISABLED",
        command="runners.oci.federation.key",
    ),
    Break(
        check="oci.issuer-key",
        act=_replan("oci", key={**_NO_KEY, "id": "ocid1.key.oc1.eu.none"}),
        says="there is no such key",
        command="runners.oci.federation.key",
    ),
    Break(
        check="oci.issuer-bucket",
        act=lambda world: world.oci.storage.set_public_access(BUCKET, "NoPublicAccess"),
        says="not everyone may read it",
        command="--public-access-type ObjectReadWithoutList",
    ),
    Break(
        check="oci.issuer-bucket",
        act=lambda world: world.oci.storage.suspend_versioning(BUCKET),
        says="keeps no versions",
        command="--versioning Enabled",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="oci.issuer-bucket",
        act=_replan("oci", issuer="https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/tenant/b/none/o"),
        says="no such bucket",
        command="make deploy-oci",
    ),
    Break(
        check="oci.issuer-documents",
        act=lambda world: world.oci.storage.set_public_access(BUCKET, "NoPublicAccess"),
        says="it is not served to everyone: IssuerNotPublicError (404)",
        command="lockstep identity publish",
    ),
    Break(
        check="oci.issuer-documents",
        act=_configured(issuer="https://another.example.com"),
        says="of another issuer",
        command="--replace",
    ),
    Break(
        check="oci.issuer-documents",
        act=_configured(jwks_uri="https://another.example.com/jwks.json"),
        says="another key set",
        command="--replace",
    ),
    Break(
        check="oci.issuer-documents",
        act=lambda world: write(world.oci, KEYS, b"[]"),
        says="it is no key set",
        command="--replace",
    ),
    Break(
        check="oci.issuer-documents",
        act=_only_a_stranger,
        says="does not name ocid1.keyversion",
        command="lockstep identity publish",
    ),
    Break(
        check="oci.issuer-documents",
        act=_exchanged,
        says="is not the vault's",
        command="--replace",
    ),
    Break(
        check="oci.issuer-documents",
        act=_stranger,
        says="who has it can make tokens of the OCI runner",
        command="--replace",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="oci.issuer-documents",
        act=_twice,
        says="it is no key set",
        command="--replace",
    ),
    Break(
        check="oci.identity-domain",
        act=_portal,
        says="what answers there is no identity domain",
        command="domain_url",
    ),
    Break(
        check="oci.identity-domain",
        act=_silence,
        says="no identity domain answers",
        command="curl -v -X POST https://idcs-",
    ),
)
