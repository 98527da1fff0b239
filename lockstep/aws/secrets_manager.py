"""AWS Secrets Manager: one versioned secret.

A generation's name (`lockstep.protocol.names`) is the version's id, so staging is idempotent: Secrets Manager never
puts other content under an id that it has
(https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html).

    operation          calls of one secret
    read_current       1   GetSecretValue
    read_version       1   GetSecretValue
    read_generation    1   GetSecretValue; 2 for generation 0 after it was superseded
    version_of         0   2 at most for generation 0
    prepare            0   PutSecretValue to write; GetSecretValue to read back what was there
    from_seen          0   UpdateSecretVersionStage to commit
    observe            1   DescribeSecret; UpdateSecretVersionStage to commit
    shows              1   GetSecretValue
    named              1   DescribeSecret

If a version is not found, that costs one DescribeSecret more: AWS gives a missing secret the same error code.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lockstep.aws.clients import error_code, translated
from lockstep.protocol.errors import (
    STORE_ERRORS,
    LostCompareAndSetError,
    ReadSideLaggingError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreQuotaExceededError,
    StoreRejectedError,
)
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import (
    BINARY,
    MAX_TEXT_BYTES,
    Observed,
    SecretVersion,
    Staged,
    VersionName,
    moment,
)

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"


def read_secret(client: "SecretsManagerClient", store: str, secret: str) -> str:
    """The current text of any secret."""
    versions = SecretsManagerSecret(client, store, VersionNames(credential_id=secret, secret=secret))
    text = versions.read_current().text
    if text is None:
        raise SecretMalformedError(store=store, secret=secret, code=BINARY)
    return text


class SecretsManagerSecret:
    """The port `VersionedSecret` on one secret of one region.

    Args:
        client: The client of the region.
        store: The store's name in the plan, for errors.
        names: The secret's name, and the ids of its versions.
    """

    def __init__(self, client: "SecretsManagerClient", store: str, names: VersionNames) -> None:
        self._client = client
        self._names = names
        self._where = {"store": store, "secret": names.secret}

    max_bytes = MAX_TEXT_BYTES
    only_strings = False
    """The port is a number, as in AWS's structure of a secret."""

    def read_current(self) -> SecretVersion:
        """The version with the label AWSCURRENT."""
        found = self._read(VersionStage=CURRENT)
        if found is None:
            raise SecretMalformedError(**self._where)  # The secret exists and has never held a value.
        return found

    def served(self) -> list[SecretVersion]:
        """What applications may read now: the current version alone."""
        return [self.read_current()]

    def named(self) -> VersionName:
        """The version with the label AWSCURRENT, by its id."""
        current = self._current_id()
        return VersionName(id=current, generation=self._names.generation_of(current))

    def read_version(self, version: str) -> SecretVersion | None:
        """A version by its id, also one without labels."""
        return self._read(VersionId=version)

    def read_generation(self, generation: int) -> SecretVersion | None:
        """The version that holds a generation, with or without labels."""
        if generation:
            return self._read(VersionId=self._names.name_of(generation))
        found = (self._read(VersionStage=label) for label in (CURRENT, PREVIOUS))
        return next((v for v in found if v and v.generation == 0), None)

    def version_of(self, generation: int) -> str:
        """The version id of a generation."""
        if generation:
            return self._names.name_of(generation)
        found = self.read_generation(0)
        return found.id if found else ""

    def prepare(self, generation: int, *, over: Sequence[SecretVersion] = ()) -> Callable[[str], Staged]:
        """Nothing to look at. The write puts a version with the label AWSPENDING, unless its id has other content."""
        return partial(self._put, generation, over[0].id if over else "")

    def _put(self, generation: int, seen: str, text: str) -> Staged:
        version = self._names.name_of(generation)
        is_new = True
        with self._translated():
            try:
                self._client.put_secret_value(
                    SecretId=self._names.secret,
                    ClientRequestToken=version,
                    SecretString=text,
                    VersionStages=[PENDING],
                )
            except self._client.exceptions.ResourceExistsException:
                is_new = False
        return Staged(
            is_new=is_new, read_back=partial(self._read_back, generation), seen=seen if is_new else ""
        )

    def from_seen(self, generation: int, seen: str) -> Observed:
        """Nothing to look at. The commit moves the label AWSCURRENT if that version has it."""
        return self._observed(generation, seen)

    def observe(self, generation: int, *, seen: str = "") -> Observed:
        """Read which version has the label AWSCURRENT; the commit moves that label."""
        del seen
        current = self._current_id()
        is_ours = self._names.generation_of(current)
        return self._observed(generation, current, replaces="" if is_ours else current)

    def _observed(self, generation: int, current: str, *, replaces: str = "") -> Observed:
        target = self._names.name_of(generation)
        return Observed(
            generation=self._names.generation_of(current),
            version=target,
            replaces=replaces,
            commit=partial(self._move_current, current, target),
        )

    def shows(self, version: str) -> bool:
        """Whether the version has the label AWSCURRENT."""
        current = self._read(VersionStage=CURRENT)
        return current is not None and current.id == version

    def prune(self) -> int:
        """Nothing to do: Secrets Manager removes versions without labels by itself."""
        return 0

    def serves(self, matches: Callable[[str], bool]) -> bool:
        """Whether the current text matches."""
        current = self._read(VersionStage=CURRENT)
        return current is not None and current.text is not None and matches(current.text)

    def edit(self, text: str, *, unless: Callable[[str], bool]) -> None:
        """Put a current version under a name that is not Lockstep's, unless the current text matches."""
        if not self.serves(unless):
            with self._translated():
                self._client.put_secret_value(SecretId=self._names.secret, SecretString=text)

    def _read_back(self, generation: int) -> SecretVersion:
        found = self.read_generation(generation)
        if found is None:
            raise ReadSideLaggingError(**self._where, generation=generation)
        return found

    def _current_id(self) -> str:
        with self._translated():
            described = self._client.describe_secret(SecretId=self._names.secret)
            labels = described.get("VersionIdsToStages", {})
            found = next((v for v, stages in labels.items() if CURRENT in stages), None)
        if found is None:
            raise SecretMalformedError(**self._where)
        return found

    def _move_current(self, seen: str, target: str) -> None:
        refusals = (
            self._client.exceptions.InvalidParameterException,
            self._client.exceptions.ResourceNotFoundException,
        )
        with self._translated():
            try:
                self._client.update_secret_version_stage(
                    SecretId=self._names.secret,
                    VersionStage=CURRENT,
                    MoveToVersionId=target,
                    RemoveFromVersionId=seen,
                )
            except refusals as error:
                # AWS has no error code for a lost compare-and-set, so look again at what is current.
                if self._current_id() != seen:
                    raise LostCompareAndSetError(**self._where) from None
                raise StoreRejectedError(**self._where, code=error_code(error)) from None

    def _read(self, **which: str) -> SecretVersion | None:
        with self._translated():
            try:
                reply = self._client.get_secret_value(SecretId=self._names.secret, **which)
            except self._client.exceptions.ResourceNotFoundException:
                # Raises if the secret itself is missing.
                self._client.describe_secret(SecretId=self._names.secret)
                return None
            version, text = str(reply["VersionId"]), reply.get("SecretString")
            return SecretVersion(
                id=version,
                generation=self._names.generation_of(version),
                text=text if isinstance(text, str) else None,  # None: it is binary.
                created_at=moment(reply.get("CreatedDate")),
                arn=str(reply.get("ARN", "")),
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(STORE_ERRORS, **self._where):
            try:
                yield
            except self._client.exceptions.ResourceNotFoundException:
                raise SecretNotFoundError(**self._where) from None
            except self._client.exceptions.LimitExceededException:
                raise StoreQuotaExceededError(**self._where) from None
