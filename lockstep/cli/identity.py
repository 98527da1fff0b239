"""`lockstep identity`: the documents with which the OCI runner proves itself in AWS."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lockstep.cli.output import DryRun, no, plan_or_exit, say, say_next, wrong_use
from lockstep.operate.access import operator
from lockstep.operate.formatting import oci
from lockstep.plan.checks import awaited_values
from lockstep.plan.model import Plan
from lockstep.plan.runners import IssuerFederation
from lockstep.protocol.federation import (
    CACHE_SECONDS,
    CONFIGURATION,
    KEYS,
    Jwk,
    Place,
    configuration,
    is_of_issuer,
    key_set,
    management_endpoint,
    place_of,
    published_keys,
    region_of,
    strangers,
)
from lockstep.protocol.strict_json import MessageError
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import DEPLOYER

if TYPE_CHECKING:
    from lockstep.oci.kms import IssuerKeyVersions
    from lockstep.oci.object_storage import Stored


# `lockstep identity publish`: the documents by which AWS verifies the OCI runner's tokens.

_no = partial(no, name="IdentityRefused")


def publish(
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over documents that are not of this issuer.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Publish the documents by which AWS verifies the tokens of the OCI runner.

    With `runners.oci.federation` the OCI function needs no key for AWS: a key in OCI Vault, which cannot be exported,
    signs its tokens, and AWS reads from the issuer's bucket with which keys they may be signed. This writes both
    documents there, the key set first, and reads them back over HTTPS without an identity, as AWS does. What is as it
    should be is left alone.

    Whoever may write to that bucket can make tokens of the OCI runner: give that right to those who deploy, and to no
    function. A key in the key set that is not of the plan's key is never overlooked: this ends with 1, until --replace
    removes it.

    The key set names every enabled version of the plan's key. To replace the one that signs, make the next version in
    OCI Vault, run this, and follow the steps that it prints; a version that is scheduled for deletion is trusted no
    more once this has run again.

    Exit code: 0 published, or with --dry-run could be; 1 a document is not of this issuer, the plan's version is not
    enabled, or what is served differs; 2 the plan has no runners.oci.federation; 3 the vault, the bucket or the
    issuer's address was unreachable or denied.
    """
    plan = plan_or_exit()
    federation, place, region = _issuer(plan)
    from lockstep.oci.kms import IssuerKeyVersions  # noqa: PLC0415 - the extra may be missing
    from lockstep.oci.object_storage import IssuerBucket  # noqa: PLC0415 - likewise

    clouds = operator(plan, identity=DEPLOYER)
    key = IssuerKeyVersions(
        clouds.oci(region),
        key_id=federation.key.id,
        endpoint=federation.key.endpoint,
        elsewhere=clouds.oci_endpoint,
    )
    bucket = IssuerBucket(clouds.oci(place.region), place)
    trusted, stored = _trusted(key, federation), {name: bucket.read(name) for name in (KEYS, CONFIGURATION)}
    if not replace:
        _require_ours(key, trusted, stored, federation.issuer)
    # What names the key set is written last.
    documents = {KEYS: key_set([*trusted.values()]), CONFIGURATION: configuration(federation.issuer)}
    changed = [name for name, content in documents.items() if not _is_there(stored[name], content)]
    for name in () if dry_run else changed:
        if not bucket.write(name, documents[name], over=stored[name]):
            raise _no(f"{name} was changed by another writer at the same time; run this command again")
    if not dry_run or not changed:
        _require_served(documents, federation.issuer, clouds)
    say(federation.issuer)
    for name in documents:
        state = "as it should be" if name not in changed else "would be written" if dry_run else "written"
        say(f"  {name}: {state}")
    for kid in trusted:
        say(f"  trusted: {kid}{', signs' if kid == federation.key.version else ''}")
    if not changed:
        say("nothing to do: the documents are there, and served as they should be", style="green")
    elif not dry_run:
        say("read back as AWS reads them", style="green")
    say_next(() if dry_run else _steps([*trusted], federation, region))


def _issuer(plan: Plan) -> tuple[IssuerFederation, Place, str]:
    """The issuer, the place of its documents and the region of its key; or exit code 2."""
    federation = plan.runners.oci.federation if plan.runners.oci else None
    if federation is None:
        raise wrong_use(
            "the plan has no runners.oci.federation, so there is no issuer; the OCI runner reaches AWS with a key"
        )
    if examples := [text for text in awaited_values(plan) if text.startswith("runners.oci.federation.key.")]:
        raise wrong_use("; ".join(examples))
    place = place_of(federation.issuer)
    if place is None:
        raise wrong_use(
            f"runners.oci.federation.issuer is {federation.issuer}, which is not the address of a bucket in OCI's "
            "commercial realm: https://objectstorage.REGION.oraclecloud.com/n/NAMESPACE/b/BUCKET/o"
        )
    region = region_of(federation.key.endpoint)
    if region is None:
        raise wrong_use(
            "runners.oci.federation.key.endpoint is not a vault's cryptographic endpoint; to find it: "
            "oci kms management vault get --vault-id VAULT --query 'data.\"crypto-endpoint\"'"
        )
    return federation, place, region


def _trusted(key: "IssuerKeyVersions", federation: IssuerFederation) -> Mapping[str, Jwk]:
    """The enabled versions of the key, the newest first; exit code 1 where that of the plan is none."""
    enabled = [version.id for version in key.listed() if version.is_enabled][::-1]
    if (named := federation.key.version) not in enabled:
        raise _no(
            f"{named} is not an enabled version of this key; correct runners.oci.federation.key.version. "
            f"Enabled are: {', '.join(enabled) or 'none'}"
        )
    try:
        return {kid: key.public_key(kid) for kid in enabled}
    except MessageError:
        raise _no(
            f"{federation.key.id} is not an RSA key of 2,048 bits or more, which AWS needs; name another one in "
            "runners.oci.federation.key"
        ) from None


def _require_ours(
    key: "IssuerKeyVersions", trusted: Mapping[str, Jwk], stored: Mapping[str, "Stored | None"], issuer: str
) -> None:
    """Exit code 1 where somebody else's document or key is in the bucket."""
    keys, found, known = stored[KEYS], stored[CONFIGURATION], dict(trusted)
    published = published_keys(keys.content) if keys else None
    for kid in ({version.id for version in key.listed()} & (published or {}).keys()) - known.keys():
        # A vault does not show a version for good that it has deleted. What is published of it is a stranger's.
        with suppress(MessageError):
            known[kid] = key.public_key(kid)
    foreign = [f"{KEYS} holds {kid}" for kid in (strangers(keys.content, known) if keys else ())]
    if found and not is_of_issuer(found.content, issuer):
        foreign.append(f"{CONFIGURATION} is not of this issuer")
    if foreign:
        raise _no(
            "the bucket has what is not of this issuer and its key: "
            f"{'; '.join(foreign)}. Whose key is there can make tokens of the OCI runner. Find out who wrote it; "
            "then write over it: lockstep identity publish --replace"
        )


def _is_there(stored: "Stored | None", content: bytes) -> bool:
    return stored is not None and stored.content == content and stored.is_served_well


def _require_served(documents: Mapping[str, bytes], issuer: str, clouds: Clouds) -> None:
    """Exit code 1 where everyone reads something else than what is in the bucket."""
    from lockstep.runtime.federation import read_document  # noqa: PLC0415 - the extra may be missing

    for name, content in documents.items():
        if read_document(f"{issuer}/{name}", clouds) != content:
            raise _no(
                f"{issuer}/{name} is served with other content than the bucket's. What stands before the "
                f"bucket may keep it for {CACHE_SECONDS} seconds: then run this command again"
            )


def _steps(trusted: Sequence[str], federation: IssuerFederation, region: str) -> list[str]:
    """What comes next where several versions are trusted."""
    key, newest = federation.key, trusted[0]
    begin = [
        "wait 24 h: how long AWS keeps a key set is not documented",
        f"in the plan: runners.oci.federation.key.version: {newest}; then make deploy-oci",
    ]
    place = ("--endpoint", management_endpoint(key.endpoint), "--key-id", key.id, "--key-version-id")
    drop = [
        "once no function has signed with it for 1 h, before this command again: "
        + oci(region, "kms management key-version schedule-deletion", *place, kid)
        for kid in trusted[1:]
    ]
    return [*(begin if newest != key.version else ()), *drop]
