"""`lockstep identity`: the documents with which the OCI runner proves itself in AWS."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.cli.output import DryRun, no, plan_file, plan_or_exit, print_json, say, say_next, wrong_use
from lockstep.operate.access import operator
from lockstep.operate.documents import Issuer, TrustedVersion
from lockstep.operate.formatting import to_second, wants_json
from lockstep.plan.checks import awaited_values
from lockstep.plan.model import Plan
from lockstep.plan.runners import IssuerFederation
from lockstep.protocol.federation import (
    CACHE_SECONDS,
    CONFIGURATION,
    KEYS,
    RETIRE_AFTER,
    VERIFIERS_FORGET,
    Origin,
    Publication,
    PublicKey,
    configuration,
    key_set,
    origin_of_configuration,
    place_of,
    publication,
    published_keys,
    region_of,
    strangers,
    successor,
)
from lockstep.protocol.strict_json import MessageError
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import DEPLOYER

if TYPE_CHECKING:
    from lockstep.oci.kms import IssuerKeyVersions
    from lockstep.oci.object_storage import IssuerBucket


# `lockstep identity publish`: the documents by which AWS verifies the OCI runner's tokens.

_no = partial(no, name="IdentityRefused")
_EXAMPLE = "https://objectstorage.REGION.oraclecloud.com/n/NAMESPACE/b/BUCKET/o"


def publish(
    *,
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help=f"Where to write, if the issuer has an address of your own: {_EXAMPLE}."
        ),
    ] = None,
    rotate: Annotated[
        bool,
        typer.Option("--rotate", help="Also make the next version of the key, and let it be trusted, too."),
    ] = False,
    retire: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Stop trusting this version of the key, by its OCID."),
    ] = None,
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

    The key set names the version of the key that the plan names, and those that it names already and that still sign.
    --rotate makes the next version, publishes it beside the old one and says when and how the plan takes it; repeated,
    it continues with the version that it has made. --retire takes the old one out afterwards.

    Exit code: 0 published, or with --dry-run could be; 1 a document is not of this issuer, the key has no such
    version, or what is served differs; 2 the plan has no runners.oci.federation; 3 the vault, the bucket or the
    issuer's address was unreachable or denied.
    """
    issuer = _opened(plan_or_exit(), bucket)
    issuer.require_retirable(retire)
    fresh = issuer.next_version(dry_run=dry_run) if rotate else None
    if fresh and fresh == retire:
        raise _no(f"{retire} stays with --rotate, which lets it sign next; give one of both options")
    wanted = publication(
        issuer.versions,
        named=issuer.named,
        published=issuer.published.keys(),
        more={fresh} if fresh else set(),
        retired={retire} if retire else set(),
    )
    documents = issuer.documents(wanted, replace=replace)
    written = issuer.write(documents, dry_run=dry_run)
    if not dry_run or not written:
        issuer.require_served(documents)
    made_at = {version.id: to_second(version.made_at) for version in issuer.versions}
    done = Issuer(
        issuer=issuer.address,
        dry_run=dry_run,
        written=written,
        trusted=[
            TrustedVersion(version=kid, made_at=made_at[kid], signs=kid == issuer.named)
            for kid in wanted.trusted
        ],
        dropped=wanted.dropped,
        next_version=fresh,
        next=_steps(wanted, issuer.named, fresh, None if dry_run else plan_file()),
    )
    if wants_json():
        print_json(done)
    else:
        _show(done, rotate=rotate)


def _opened(plan: Plan, bucket: str | None) -> "_Issuer":
    """The issuer of the plan, as it is now; or exit code 2."""
    federation = plan.runners.oci.federation if plan.runners.oci else None
    if federation is None:
        raise wrong_use(
            "the plan has no runners.oci.federation, so there is no issuer; the OCI runner reaches AWS with a key"
        )
    if examples := [text for text in awaited_values(plan) if text.startswith("runners.oci.federation.key.")]:
        raise wrong_use("; ".join(examples))
    place = place_of(bucket or federation.issuer)
    if place is None:
        raise wrong_use(
            f"{bucket or federation.issuer} is not the address of a bucket in OCI's commercial realm, and this command "
            f"knows no other; say where the documents are to be written: --bucket {_EXAMPLE}"
        )
    region = region_of(federation.key.endpoint)
    if region is None:
        raise wrong_use(
            "runners.oci.federation.key.endpoint is not a vault's cryptographic endpoint; to find it: "
            "oci kms management vault get --vault-id VAULT --query 'data.\"crypto-endpoint\"'"
        )
    from lockstep.oci.kms import IssuerKeyVersions  # noqa: PLC0415 - likewise
    from lockstep.oci.object_storage import IssuerBucket  # noqa: PLC0415 - the extra may be missing

    clouds = operator(plan, identity=DEPLOYER)
    key = IssuerKeyVersions(
        clouds.oci(region),
        key_id=federation.key.id,
        endpoint=federation.key.endpoint,
        elsewhere=clouds.endpoints.oci,
        clock=clouds.clock,
    )
    return _Issuer(federation, key, IssuerBucket(clouds.oci(place.region), place), clouds)


class _Issuer:
    """The issuer's key and its documents.

    Attributes:
        address: Of the issuer.
        named: The version of the key that the plan names.
        versions: Of the key, the oldest first.
        published: The keys of the stored key set.
    """

    def __init__(
        self, federation: IssuerFederation, key: "IssuerKeyVersions", bucket: "IssuerBucket", clouds: Clouds
    ) -> None:
        self.address, self.named = federation.issuer, federation.key.version
        self._key, self._bucket, self._clouds = key, bucket, clouds
        self.versions = list(key.listed())
        enabled = [version.id for version in self.versions if version.is_enabled]
        if self.named not in enabled:
            is_there = self.named in {version.id for version in self.versions}
            state = "is not enabled" if is_there else "is not a version of this key"
            raise _no(
                f"{self.named} {state}; correct runners.oci.federation.key.version. Enabled are: "
                f"{', '.join(enabled) or 'none'}"
            )
        self._stored = {name: bucket.read(name) for name in (KEYS, CONFIGURATION)}
        keys = self._stored[KEYS]
        self.published: Mapping[str, Mapping[str, Any]] = (
            published_keys(keys.content) if keys else None
        ) or {}

    def require_retirable(self, retire: str | None) -> None:
        """Exit code 1 where the version must stay, or is not one of the key."""
        if retire == self.named:
            raise _no(
                f"{retire} stays: the plan names it, and the OCI function signs with it. First let "
                "runners.oci.federation.key.version name the next one, and deploy: lockstep identity publish --rotate"
            )
        ids = [version.id for version in self.versions]
        if retire is not None and retire not in ids:
            raise _no(f"the key has no version {retire}; its versions: {', '.join(ids)}")

    def next_version(self, *, dry_run: bool) -> str | None:
        """The version that is to sign next; with `dry_run` None where it is yet to be made."""
        self.versions = list(self._key.settled())
        found = successor(self.versions, self.named)
        if found is None and not dry_run:
            found = self._key.make()
            self.versions = list(self._key.settled())
        return found

    def documents(self, wanted: Publication, *, replace: bool) -> Mapping[str, bytes]:
        """The documents by name, in the order in which they are written: what names the key set is there last.

        Exit code 1 where somebody else's is there, and is not to be replaced.
        """
        keys = {kid: self._public_key(kid) for kid in wanted.trusted}
        if not replace:
            self._require_ours(keys)
        return {
            KEYS: key_set([keys[kid] for kid in wanted.trusted]),
            CONFIGURATION: configuration(self.address),
        }

    def _public_key(self, kid: str) -> PublicKey:
        try:
            return self._key.public_key(kid)
        except MessageError:
            raise _no(
                f"{kid} is not an RSA key of 2,048 bits or more, which AWS needs; name another one in "
                "runners.oci.federation.key"
            ) from None

    def _require_ours(self, trusted: Mapping[str, PublicKey]) -> None:
        known = dict(trusted)
        for kid in (self.published.keys() & {version.id for version in self.versions}) - known.keys():
            # A vault does not show a version for good that it has deleted. What is published of it is a stranger's.
            with suppress(MessageError):
                known[kid] = self._key.public_key(kid)
        keys, found = self._stored[KEYS], self._stored[CONFIGURATION]
        foreign = [f"{KEYS} holds {kid}" for kid in (strangers(keys.content, known) if keys else ())]
        origin = origin_of_configuration(found.content if found else None, self.address)
        if origin is Origin.FOREIGN:
            foreign.append(f"{CONFIGURATION} is {origin.value}")
        if foreign:
            raise _no(
                "the bucket has what is not of this issuer and its key: "
                f"{'; '.join(foreign)}. Whose key is there can make tokens of the OCI runner. Find out who wrote it; "
                "then write over it: lockstep identity publish --replace"
            )

    def write(self, documents: Mapping[str, bytes], *, dry_run: bool) -> tuple[str, ...]:
        """Write what is not as it should be, the key set first; the names."""
        changed = tuple(name for name, text in documents.items() if not self._is_there(name, text))
        for name in () if dry_run else changed:
            if not self._bucket.write(name, documents[name], over=self._stored[name]):
                raise _no(
                    f"{name} was changed by another writer at the same time; look again: run this command again"
                )
        return changed

    def _is_there(self, name: str, content: bytes) -> bool:
        stored = self._stored[name]
        return stored is not None and stored.content == content and stored.is_served_well

    def require_served(self, documents: Mapping[str, bytes]) -> None:
        """Exit code 1 where everyone reads something else than what is in the bucket."""
        from lockstep.runtime.federation import read_document  # noqa: PLC0415 - the extra may be missing

        for name, content in documents.items():
            if read_document(f"{self.address}/{name}", self._clouds) != content:
                raise _no(
                    f"{self.address}/{name} is served with other content than the bucket's. What stands before the "
                    f"bucket may keep it for {CACHE_SECONDS} seconds: then run this command again"
                )


def _steps(wanted: Publication, named: str, fresh: str | None, file: Path | None) -> list[str]:
    """What comes next; `file` is None where nothing was done."""
    if fresh and file:
        return [
            f"wait {_hours(VERIFIERS_FORGET)}: how long AWS keeps a key set is not documented",
            f"in {file}: runners.oci.federation.key.version: {fresh}",
            f"deploy: make deploy-oci PLAN={file}",
            f"{_hours(RETIRE_AFTER)} later: lockstep identity publish --retire {named}",
        ]
    return [
        f"once no function signs with it for {_hours(RETIRE_AFTER)}: lockstep identity publish --retire {kid}"
        for kid in wanted.trusted
        if kid not in {named, fresh}
    ]


def _show(done: Issuer, *, rotate: bool) -> None:
    verb, fresh = "would be written" if done.dry_run else "written", done.next_version
    say(done.issuer)
    for name in (KEYS, CONFIGURATION):
        say(f"  {name}: {verb if name in done.written else 'as it should be'}")
    for one in done.trusted:
        use = "signs" if one.signs else "is to sign next" if one.version == fresh else "signed before"
        say(f"  trusted: {one.version}, made {one.made_at}, {use}")
    for kid in done.dropped:
        say(f"  {'would be' if done.dry_run else 'is'} trusted no more: {kid}", style="yellow")
    if rotate and fresh is None:
        say("  would make the next version of the key, and trust it, too")
    if not done.written and not fresh:
        say("nothing to do: the documents are there, and served as they should be", style="green")
    elif not done.dry_run:
        say("read back as AWS reads them", style="green")
    say_next(done.next)


def _hours(time: timedelta) -> str:
    return f"{time.total_seconds() / 3600:g} h"
