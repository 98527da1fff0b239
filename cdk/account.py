"""Questions to an AWS account about what exists, and what it lacks for Lockstep. Nothing is changed.

Each question answers None where there is nothing with that name.
"""

import json
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
        "EntityDoesNotExist",
        # Outbound federation of IAM, where it is not switched on.
        "FeatureDisabled",
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        "NoSuchEntity",
        "NoSuchLifecycleConfiguration",
        "NoSuchTagSet",
        "NotFound",
        "NotFoundException",
        "ObjectLockConfigurationNotFoundError",
        "ResourceNotFound",
        "ResourceNotFoundException",
        "ServerSideEncryptionConfigurationNotFoundError",
        "StateMachineDoesNotExist",
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
        what: Its kind and name, for people.
        tags: Its tags.
        unfit: Why Lockstep can never use it, each with what to name instead.
        lacks: Why Lockstep cannot use it as it is, each with what to do.
        notes: What is weaker than what Lockstep makes.
        key_arn: The customer's key that encrypts it; of a key its own ARN.
    """

    what: str
    tags: Mapping[str, str] = field(default_factory=dict)
    unfit: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    key_arn: str | None = None


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
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _NOT_THERE:
                return None
            raise _refused(service, operation, error) from error
        except NoCredentialsError as error:
            raise UnansweredError(
                "no credentials for AWS were found; give --profile, or sign in, for example by `aws sso login`"
            ) from error
        except BotoCoreError as error:
            raise UnansweredError(f"{service}: {operation} got no answer: {error}") from error

    def pages(self, service: str, operation: str, **parameters: object) -> Iterator[Answer]:
        """Every page of a list.

        Raises:
            UnansweredError: It was refused, or there was no answer.
        """
        try:
            yield from self._of(service).get_paginator(operation).paginate(**parameters)
        except ClientError as error:
            raise _refused(service, operation, error) from error
        except BotoCoreError as error:
            raise UnansweredError(f"{service}: {operation} got no answer: {error}") from error

    def stack(self, name: str) -> StackState:
        """The stack with this name, and what it manages."""
        try:
            found = self._of("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            # A stack that is not there has no code of its own.
            if "does not exist" in error.response["Error"]["Message"]:
                return StackState(status=None)
            raise _refused("cloudformation", "describe_stacks", error) from error
        except BotoCoreError as error:
            raise UnansweredError(f"cloudformation: describe_stacks got no answer: {error}") from error
        resources = frozenset(
            (resource["ResourceType"], resource["PhysicalResourceId"])
            for page in self.pages("cloudformation", "list_stack_resources", StackName=name)
            for resource in page["StackResourceSummaries"]
            if resource.get("PhysicalResourceId") and resource["ResourceStatus"] not in _NO_LONGER_THERE
        )
        return StackState(status=found[0]["StackStatus"], resources=resources)

    def table(self, name: str) -> Found | None:
        """A table of DynamoDB, as a lock table."""
        answer = self.ask("dynamodb", "describe_table", TableName=name)
        if answer is None:
            return None
        table, what = answer["Table"], f"table {name}"
        keys = [(k["AttributeName"], k["KeyType"]) for k in table["KeySchema"]]
        types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
        unfit, lacks = [], []
        if keys != [("credential_id", "HASH")] or types.get("credential_id") != "S":
            shown = ", ".join(f"{key} ({types.get(key)})" for key, _ in keys)
            unfit.append(
                f"{what}: its key is {shown}, and a lock table has the partition key credential_id (S) alone; name "
                "another table in the plan (lock.table)"
            )
        if table["TableStatus"] != "ACTIVE":
            lacks.append(f"{what}: it is {table['TableStatus']}; wait until it is ACTIVE")
        expiry = self.ask("dynamodb", "describe_time_to_live", TableName=name) or {}
        expiry = expiry.get("TimeToLiveDescription", {})
        if expiry.get("TimeToLiveStatus", "DISABLED") != "DISABLED":
            attribute = expiry.get("AttributeName")
            lacks.append(
                f"{what}: DynamoDB deletes its items by time to live ({attribute}), and a lock record must not go; "
                f"`aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification "
                f"Enabled=false,AttributeName={attribute}`"
            )
        tags = self.ask("dynamodb", "list_tags_of_resource", ResourceArn=table["TableArn"]) or {}
        key = table.get("SSEDescription", {}).get("KMSMasterKeyArn")
        notes = []
        if not table.get("DeletionProtectionEnabled"):
            notes.append(
                f"{what}: nothing stops its deletion; `aws dynamodb update-table --table-name {name} "
                "--deletion-protection-enabled` does"
            )
        return Found(
            what=what,
            tags=_tags(tags.get("Tags", [])),
            unfit=tuple(unfit),
            lacks=tuple(lacks),
            notes=tuple(notes),
            key_arn=self.customer_key(key),
        )

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

    def key(self, key_id: str, *, spec: str, usage: str) -> Found | None:
        """A key by id, ARN or alias.

        Args:
            key_id: Its id, ARN or alias.
            spec: The KeySpec that it must have.
            usage: The KeyUsage that it must have.
        """
        answer = self.ask("kms", "describe_key", KeyId=key_id)
        if answer is None:
            return None
        key, what = answer["KeyMetadata"], f"key {key_id}"
        unfit, lacks = [], []
        if (key.get("KeySpec"), key["KeyUsage"]) != (spec, usage):
            unfit.append(
                f"{what}: it is {key.get('KeySpec')} for {key['KeyUsage']}, and must be {spec} for {usage}"
            )
        if key["KeyState"] == "PendingDeletion":
            lacks.append(
                f"{what}: it is scheduled for deletion; `aws kms cancel-key-deletion --key-id {key['KeyId']} && aws "
                f"kms enable-key --key-id {key['KeyId']}` keeps it"
            )
        elif key["KeyState"] != "Enabled":
            lacks.append(
                f"{what}: it is {key['KeyState']}; `aws kms enable-key --key-id {key['KeyId']}` enables it"
            )
        tags = []
        if key["Arn"].split(":")[4] == self.id and key.get("KeyManager") != "AWS":
            answer = self.ask("kms", "list_resource_tags", KeyId=key["KeyId"])
            tags = [{"Key": tag["TagKey"], "Value": tag["TagValue"]} for tag in answer["Tags"]]
        return Found(what=what, tags=_tags(tags), unfit=tuple(unfit), lacks=tuple(lacks), key_arn=key["Arn"])

    def key_policy(self, key_arn: str) -> Mapping[str, Any]:
        """The policy of a key of this account."""
        policy: Mapping[str, Any] = json.loads(
            self.ask("kms", "get_key_policy", KeyId=key_arn, PolicyName="default")["Policy"]
        )
        return policy

    def oidc_provider(self, issuer: str, audience: str) -> Found | None:
        """The provider of IAM for an issuer of tokens; an account has one for a URL at most."""
        arn = self.provider_arn(issuer)
        answer = self.ask("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
        if answer is None:
            return None
        what, lacks = f"OIDC provider {issuer}", []
        if audience not in answer.get("ClientIDList", []):
            lacks.append(
                f"{what}: it takes no tokens for {audience}; `aws iam add-client-id-to-open-id-connect-provider "
                f"--open-id-connect-provider-arn {arn} --client-id {audience}`"
            )
        return Found(what=what, tags=_tags(answer.get("Tags", [])), lacks=tuple(lacks))

    def provider_arn(self, issuer: str) -> str:
        """The ARN of the provider for an issuer, which has the issuer's path."""
        return f"arn:{self.partition}:iam::{self.id}:oidc-provider/{issuer.removeprefix('https://')}"

    def log_group(self, name: str) -> Found | None:
        """A log group."""
        for page in self.pages("logs", "describe_log_groups", logGroupNamePrefix=name):
            for group in page["logGroups"]:
                if group["logGroupName"] == name:
                    return self._log_group(name, group)
        return None

    def _log_group(self, name: str, group: Answer) -> Found:
        what, lacks = f"log group {name}", []
        if group.get("logGroupClass", "STANDARD") != "STANDARD":
            lacks.append(
                f"{what}: its class is {group['logGroupClass']}, which has no metrics; delete it, and it is made"
            )
        arn = group["arn"].removesuffix(":*")
        tags = self.ask("logs", "list_tags_for_resource", resourceArn=arn) or {}
        return Found(what=what, tags=tags.get("tags", {}), lacks=tuple(lacks))


def _refused(service: str, operation: str, error: ClientError) -> UnansweredError:
    code = error.response["Error"]["Code"]
    what_to_do = ""
    if code in _NOT_SIGNED_IN:
        what_to_do = "; sign in again, for example by `aws sso login`"
    elif code.startswith(("AccessDenied", "Unauthorized")) or code in ("403", "AuthorizationError"):
        what_to_do = "; the policy ReadOnlyAccess of AWS allows it"
    return UnansweredError(f"{service}: {operation} was refused: {code}{what_to_do}")


def _tags(tags: Collection[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}
