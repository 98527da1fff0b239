"""Access keys of a user in AWS: making, proving and deleting them."""

from collections.abc import Sequence
from typing import Any

from lockstep.aws.clients import AwsKeys
from lockstep.aws.reads import explained
from lockstep.environment import AwsCredentialsRefusedError, AwsResourceMissingError
from lockstep.model import SecretStr
from lockstep.ports import Clock
from lockstep.runner_keys import Registered, proven

Untyped = Any
"""A client, whose type botocore makes at run time."""

MOST = 2
"""Access keys that a user may have
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html)."""


class AccessKeys:
    """The keys of one user. Every method raises an EnvironmentalError where IAM does not do it."""

    def __init__(self, client: Untyped, user: str) -> None:
        self._client = client
        self.user = user

    def listed(self) -> Sequence[Registered]:
        """All keys of the user."""
        with explained():
            found = self._client.list_access_keys(UserName=self.user)["AccessKeyMetadata"]
            return [Registered(id=key["AccessKeyId"], made_at=key["CreateDate"]) for key in found]

    def make(self) -> AwsKeys:
        """Make a key. Its secret is told once, by this call."""
        with explained():
            made = self._client.create_access_key(UserName=self.user)["AccessKey"]
        return AwsKeys(
            access_key_id=made["AccessKeyId"], secret_access_key=SecretStr(made["SecretAccessKey"])
        )

    def deactivate(self, key: str) -> None:
        """Let a key work no more; it can be activated again."""
        with explained():
            self._client.update_access_key(UserName=self.user, AccessKeyId=key, Status="Inactive")

    def delete(self, key: str) -> None:
        """Delete a key."""
        with explained():
            self._client.delete_access_key(UserName=self.user, AccessKeyId=key)


def owner_of(client: Untyped, key: str) -> str | None:
    """The name of the user whose key it is; None where there is no such key."""
    try:
        with explained():
            found: str | None = client.get_access_key_last_used(AccessKeyId=key).get("UserName")
    except AwsResourceMissingError:
        return None
    return found


def prove(client: Untyped, clock: Clock) -> None:
    """Show that the key with which a client of STS signs works, by a call that needs no right.

    Raises:
        EnvironmentalError: It does not, or not in time.
    """

    def call() -> None:
        with explained():
            client.get_caller_identity()

    proven(call, AwsCredentialsRefusedError, clock)
