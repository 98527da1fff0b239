"""Questions to an AWS account about what exists. Nothing is changed.

Each question answers None where there is nothing with that name.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

Client: TypeAlias = Any
Answer: TypeAlias = Any
"""A reply of boto3, whose clients ship no types."""

_NO_LONGER_THERE = frozenset({"DELETE_COMPLETE", "DELETE_SKIPPED"})
_NOT_THERE = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NoSuchEntity",
        "NoSuchTagSet",
        "NotFoundException",
        "ObjectLockConfigurationNotFoundError",
        "ResourceNotFoundException",
    }
)
_NOT_SIGNED_IN = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


class UnansweredError(Exception):
    """The account did not answer; the text names the call and why."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something that exists.

    Attributes:
        tags: Its tags.
        key_arn: The customer's key that encrypts it; of a key its own ARN.
        lacks: Why Lockstep cannot use it as it is, with what to do, where no later failure would say it.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    key_arn: str | None = None
    lacks: str | None = None


@dataclass(frozen=True, kw_only=True)
class StackState:
    """A stack in CloudFormation.

    Attributes:
        status: Its status; None: there is no stack with this name.
        resources: Type and physical id of each resource that it manages.
    """

    status: str | None
    resources: frozenset[tuple[str, str]] = frozenset()


class Account:
    """One account in one region.

    Args:
        client: Returns a client of a service, of the region.
        region: The region.
    """

    def __init__(self, client: Callable[[str], Client], region: str) -> None:
        self._clients: dict[str, Client] = {}
        self._client = client
        self.region = region
        identity = self.ask("sts", "get_caller_identity")
        self.id: str = identity["Account"]
        self.partition: str = identity["Arn"].split(":")[1]

    def _of(self, service: str) -> Client:
        return self._clients.get(service) or self._clients.setdefault(service, self._client(service))

    def ask(self, service: str, operation: str, **parameters: object) -> Answer:
        """Make one call; None: there is nothing with that name.

        Raises:
            UnansweredError: It was refused, or there was no answer.
        """
        try:
            return getattr(self._of(service), operation)(**parameters)
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and _is_missing(error):
                return None
            raise _unanswered(service, operation, error) from error

    def _pages(self, service: str, operation: str, **parameters: object) -> Iterator[Answer]:
        """Every page of a list; raises as `ask`."""
        try:
            yield from self._of(service).get_paginator(operation).paginate(**parameters)
        except (BotoCoreError, ClientError) as error:
            raise _unanswered(service, operation, error) from error

    def stack(self, name: str) -> StackState:
        """The stack with this name, and what it manages."""
        found = self.ask("cloudformation", "describe_stacks", StackName=name)
        if found is None:
            return StackState(status=None)
        resources = frozenset(
            (resource["ResourceType"], resource["PhysicalResourceId"])
            for page in self._pages("cloudformation", "list_stack_resources", StackName=name)
            for resource in page["StackResourceSummaries"]
            if resource.get("PhysicalResourceId") and resource["ResourceStatus"] not in _NO_LONGER_THERE
        )
        return StackState(status=found["Stacks"][0]["StackStatus"], resources=resources)

    def table(self, name: str) -> Found | None:
        """A table of DynamoDB, as a lock table."""
        answer = self.ask("dynamodb", "describe_table", TableName=name)
        if answer is None:
            return None
        expiry = self.ask("dynamodb", "describe_time_to_live", TableName=name) or {}
        expires = expiry.get("TimeToLiveDescription", {}).get("TimeToLiveStatus", "DISABLED") != "DISABLED"
        tags = self.ask("dynamodb", "list_tags_of_resource", ResourceArn=answer["Table"]["TableArn"]) or {}
        return Found(
            tags=_tags(tags.get("Tags", [])),
            key_arn=self.customer_key(answer["Table"].get("SSEDescription", {}).get("KMSMasterKeyArn")),
            lacks="DynamoDB deletes its items by time to live, and a lock record must not go; switch that off "
            f"(`aws dynamodb update-time-to-live --table-name {name}`)"
            if expires
            else None,
        )

    def bucket(self, name: str, lock: tuple[str, int] | None = None) -> Found | None:
        """A bucket of this account.

        Args:
            name: Its name.
            lock: Mode and days of Object Lock that it must have, if any.
        """
        try:
            # Bucket names are global, and only its owner may say whether it is the one that is meant.
            if self.ask("s3", "head_bucket", Bucket=name, ExpectedBucketOwner=self.id) is None:
                return None
        except UnansweredError as error:
            raise UnansweredError(
                f"it belongs to another account, or {self.id} may not see it ({error}); give the plan a bucket of your "
                "own (audit.aws.bucket, which also names that of the plan)"
            ) from error
        tags = self.ask("s3", "get_bucket_tagging", Bucket=name) or {"TagSet": []}
        return Found(tags=_tags(tags["TagSet"]), lacks=self._lacks_lock(name, *lock) if lock else None)

    def _lacks_lock(self, name: str, mode: str, days: int) -> str | None:
        answer = self.ask("s3", "get_object_lock_configuration", Bucket=name) or {}
        kept = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
        found = kept.get("Days", 0) + 365 * kept.get("Years", 0)
        if kept.get("Mode") == mode and found >= days:
            return None
        return (
            f"its default Object Lock is {kept.get('Mode', 'off')} for {found} days, and plan and cdk.json say {mode} "
            f"for {days}; set it (`aws s3api put-object-lock-configuration --bucket {name}`)"
        )

    def key(self, key_id: str) -> Found | None:
        """A key by id, ARN or alias."""
        answer = self.ask("kms", "describe_key", KeyId=key_id)
        if answer is None:
            return None
        key = answer["KeyMetadata"]
        tags = self.ask("kms", "list_resource_tags", KeyId=key["KeyId"])["Tags"]
        again = f"aws kms enable-key --key-id {key['KeyId']}"
        if key["KeyState"] == "PendingDeletion":
            again = f"aws kms cancel-key-deletion --key-id {key['KeyId']} && {again}"
        return Found(
            tags={tag["TagKey"]: tag["TagValue"] for tag in tags},
            key_arn=key["Arn"],
            lacks=None if key["KeyState"] == "Enabled" else f"it is {key['KeyState']}; `{again}`",
        )

    def oidc_provider(self, issuer: str) -> Found | None:
        """The provider of IAM for an issuer of tokens; an account has one for a URL at most."""
        arn = f"arn:{self.partition}:iam::{self.id}:oidc-provider/{issuer.removeprefix('https://')}"
        answer = self.ask("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
        return Found(tags=_tags(answer.get("Tags", []))) if answer else None

    def log_group(self, name: str) -> Found | None:
        """A log group."""
        for page in self._pages("logs", "describe_log_groups", logGroupNamePrefix=name):
            for group in page["logGroups"]:
                if group["logGroupName"] == name:
                    arn = group["arn"].removesuffix(":*")
                    tags = self.ask("logs", "list_tags_for_resource", resourceArn=arn) or {}
                    return Found(tags=tags.get("tags", {}))
        return None

    def key_of_secret(self, name: str) -> str | None:
        """The key of a secret; None where that is AWS's own, or there is no such secret."""
        answer = self.ask("secretsmanager", "describe_secret", SecretId=name)
        return self.customer_key(answer.get("KmsKeyId")) if answer else None

    def customer_key(self, key_id: str | None) -> str | None:
        """The ARN of a key that is no key of AWS's own, for which no permission is needed."""
        if not key_id or key_id.rpartition(":")[2].startswith("alias/aws/"):
            return None
        try:
            answer = self.ask("kms", "describe_key", KeyId=key_id)
        except UnansweredError:
            # A key of another account may be usable for the roles, and not be shown to who deploys.
            if re.fullmatch(r"arn:[^:]+:kms:[^:]+:[0-9]{12}:key/[^/]+", key_id):
                return key_id
            raise
        if answer is None or answer["KeyMetadata"].get("KeyManager") == "AWS":
            return None
        arn: str = answer["KeyMetadata"]["Arn"]
        return arn


def _is_missing(error: ClientError) -> bool:
    # A stack that is not there has no code of its own.
    told = error.response["Error"]
    return told["Code"] in _NOT_THERE or (
        error.operation_name == "DescribeStacks" and "does not exist" in told["Message"]
    )


def _unanswered(service: str, operation: str, error: BotoCoreError | ClientError) -> UnansweredError:
    if isinstance(error, NoCredentialsError):
        return UnansweredError(
            "no credentials for AWS were found; give --profile, or sign in, for example by `aws sso login`"
        )
    if not isinstance(error, ClientError):
        return UnansweredError(f"{service}: {operation} got no answer: {error}")
    code = error.response["Error"]["Code"]
    what_to_do = ""
    if code in _NOT_SIGNED_IN:
        what_to_do = "; sign in again, for example by `aws sso login`"
    elif code.startswith(("AccessDenied", "Unauthorized")) or code in ("403", "AuthorizationError"):
        what_to_do = "; the policy ReadOnlyAccess of AWS allows it"
    return UnansweredError(f"{service}: {operation} was refused: {code}{what_to_do}")


def _tags(tags: Collection[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}
