"""Secrets Manager as AWS documents it, where moto is more lenient or wrong.

Each function corrects one thing and states the fact that it follows. The facts are in the API reference of
`PutSecretValue`, `UpdateSecretVersionStage` and `ListSecretVersionIds` and of the page on quotas.
"""

import json
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.secretsmanager.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceExistsException,
    SecretNotFoundException,
)

from sandbox.emulators.aws.patching import Foreign, Patches

_MODELS = "moto.secretsmanager.models"
_BACKEND = f"{_MODELS}:SecretsManagerBackend"

VERSION_QUOTA = 100
VERSION_MIN_AGE_SECONDS = 24 * 60 * 60
_PAGE_SIZE = 100

Clock = Callable[[], float]


def apply(patches: Patches, wall_clock: Clock) -> None:
    """Make moto's Secrets Manager as strict as the real one."""
    tell_the_time(patches, wall_clock)
    keep_the_content_of_a_used_token(patches)
    move_labels_one_by_one(patches)
    compare_and_set_labels(patches)
    limit_versions(patches, wall_clock)
    list_versions_as_they_are(patches)


def tell_the_time(patches: Patches, wall_clock: Clock) -> None:
    """Secrets and versions are dated by the sandbox's clock."""
    patches.replace(f"{_MODELS}:time", SimpleNamespace(time=wall_clock))


def keep_the_content_of_a_used_token(patches: Patches) -> None:
    """A used ClientRequestToken accepts the same content again, and refuses any other content.

    moto accepts other content while the version has AWSPENDING, and overwrites it. It also writes to a secret that is
    scheduled for deletion.
    """

    def wrapper(original: Foreign) -> object:
        def check(
            self: Foreign,
            secret_name: str,
            client_request_token: str | None,
            *content: str | None,
            **options: bool,
        ) -> object:
            secret = self.secrets.get(secret_name)
            if secret is not None and secret.is_deleted() and options.get("on_create"):
                raise InvalidRequestException(
                    "You can't create this secret because a secret with this name is already scheduled for deletion."
                )
            existing = original(self, secret_name, client_request_token, *content, **options)
            if secret is None:
                return existing
            _refuse_deleted(secret)
            version = secret.versions.get(client_request_token)
            if version is None or not (version.keys() & {"secret_string", "secret_binary"}):
                return existing
            if (version.get("secret_string"), version.get("secret_binary")) == content:
                return secret
            raise ResourceExistsException(
                f"You can't use ClientRequestToken {client_request_token} because that value is already in use "
                f"for a version of secret {secret.arn}."
            )

        return check

    patches.wrap(f"{_BACKEND}._check_with_existing_secrets_and_versions", wrapper)


def move_labels_one_by_one(patches: Patches) -> None:
    """Putting a version as AWSCURRENT moves AWSCURRENT and AWSPREVIOUS, and keeps other labels.

    moto removes every label of the current version, and takes that version from an attribute of its own instead of from
    the label.
    """

    def reset_default_version(self: Foreign, secret_version: dict[str, Any], version_id: str) -> None:
        before = _holder(self, "AWSCURRENT")
        moving = list(secret_version["version_stages"])
        if before not in (None, version_id):
            moving.append("AWSPREVIOUS")
        self.remove_version_stages_from_old_versions(moving)
        if before not in (None, version_id):
            self.versions[before]["version_stages"].append("AWSPREVIOUS")
        self.versions[version_id] = secret_version
        self.set_default_version_id(version_id)

    patches.replace(f"{_MODELS}:FakeSecret.reset_default_version", reset_default_version)


def compare_and_set_labels(patches: Patches) -> None:
    """UpdateSecretVersionStage checks everything before it moves a label, and moves it for every reader.

    - A label on one version moves only if RemoveFromVersionId names that version; moto requires this for AWSCURRENT
      alone, and otherwise leaves the label on both versions.
    - AWSCURRENT can be moved, but not removed.
    - An unknown MoveToVersionId changes nothing; moto removes the label first.
    - GetSecretValue without a stage returns the version that has AWSCURRENT now; moto returns the one before.
    """

    def wrapper(original: Foreign) -> object:
        def update_secret_version_stage(
            self: Foreign,
            secret_id: str,
            version_stage: str,
            remove_from_version_id: str | None,
            move_to_version_id: str | None,
        ) -> object:
            if secret_id not in self.secrets:
                raise SecretNotFoundException
            secret = self.secrets[secret_id]
            _refuse_deleted(secret)
            if move_to_version_id and move_to_version_id not in secret.versions:
                raise InvalidParameterException(f"Not a valid version: {move_to_version_id}")
            if version_stage == "AWSCURRENT" and not move_to_version_id:
                raise InvalidParameterException(
                    "You can only move staging label AWSCURRENT to a different secret version. "
                    "It can't be completely removed."
                )
            holder = _holder(secret, version_stage)
            if holder not in (None, remove_from_version_id, move_to_version_id):
                raise InvalidParameterException(
                    f"Staging label {version_stage} is currently attached to version {holder}, so you must "
                    "explicitly reference that version in RemoveFromVersionId."
                )
            if holder == move_to_version_id and not remove_from_version_id and version_stage != "AWSCURRENT":
                return secret.arn, secret.name
            answer = original(self, secret_id, version_stage, remove_from_version_id, move_to_version_id)
            secret.set_default_version_id(_holder(secret, "AWSCURRENT"))
            return answer

        return update_secret_version_stage

    patches.wrap(f"{_BACKEND}.update_secret_version_stage", wrapper)


def limit_versions(patches: Patches, wall_clock: Clock) -> None:
    """A secret keeps about 100 versions. None that has a label or is younger than 24 hours is removed.

    moto keeps any number. So a writer that makes too many versions a day always works there, and fails on AWS.
    """

    def wrapper(original: Foreign) -> object:
        def add_secret(self: Foreign, secret_id: str, *args: Foreign, **fields: Foreign) -> object:
            secret = self.secrets.get(secret_id)
            writes = fields.get("secret_string") is not None or fields.get("secret_binary") is not None
            if secret is not None and (args or writes) and fields.get("version_id") not in secret.versions:
                _make_room(secret.versions, removable_before=wall_clock() - VERSION_MIN_AGE_SECONDS)
            return original(self, secret_id, *args, **fields)

        return add_secret

    patches.wrap(f"{_BACKEND}._add_secret", wrapper)


def list_versions_as_they_are(patches: Patches) -> None:
    """ListSecretVersionIds lists labelled versions, and all others only on request, in pages, with their real dates.

    moto always lists all versions, in one page, each with the present time as its date.
    """

    def list_secret_version_ids(self: Foreign) -> str:
        secret = self.backend.describe_secret(secret_id=self._get_param("SecretId", if_none=""))
        with_unlabelled = self._get_bool_param("IncludeDeprecated", False)
        start = int(self._get_param("NextToken") or 0)
        end = start + int(self._get_param("MaxResults") or _PAGE_SIZE)
        versions = [
            {
                "VersionId": version["version_id"],
                "VersionStages": version["version_stages"],
                "CreatedDate": version["createdate"],
            }
            for version in secret.versions.values()
            if with_unlabelled or version["version_stages"]
        ]
        answer = {"ARN": secret.arn, "Name": secret.name, "Versions": versions[start:end]}
        if end < len(versions):
            answer["NextToken"] = str(end)
        return json.dumps(answer)

    patches.replace(
        "moto.secretsmanager.responses:SecretsManagerResponse.list_secret_version_ids",
        list_secret_version_ids,
    )


def _holder(secret: Foreign, label: str) -> str | None:
    holders: Iterable[str] = (
        version_id for version_id, version in secret.versions.items() if label in version["version_stages"]
    )
    return next(iter(holders), None)


def _refuse_deleted(secret: Foreign) -> None:
    if secret.is_deleted():
        raise InvalidRequestException(
            "You can't perform this operation on the secret because it was marked for deletion."
        )


def _make_room(versions: dict[str, dict[str, Any]], removable_before: float) -> None:
    removable = sorted(
        (
            version_id
            for version_id, version in versions.items()
            if not version["version_stages"] and version["createdate"] <= removable_before
        ),
        key=lambda version_id: float(versions[version_id]["createdate"]),
    )
    while len(versions) >= VERSION_QUOTA and removable:
        del versions[removable.pop(0)]
    if len(versions) >= VERSION_QUOTA:
        raise JsonRESTError(
            "LimitExceededException", "The secret has reached the quota of versions younger than 24 hours."
        )
