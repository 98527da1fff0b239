"""Tables and buckets."""

import json
from collections.abc import Mapping
from typing import Any

from moto.s3.models import s3_backends

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request


class Table(Kind):
    """`AWS::DynamoDB::Table`."""

    type_name = "AWS::DynamoDB::Table"
    name_property = "TableName"

    def create(self, request: Request) -> Made:
        """Create it."""
        dynamodb = request.client("dynamodb")
        table = dynamodb.create_table(
            TableName=request.name,
            Tags=request.tag_list(),
            **request.only(
                "AttributeDefinitions",
                "BillingMode",
                "DeletionProtectionEnabled",
                "GlobalSecondaryIndexes",
                "KeySchema",
                "LocalSecondaryIndexes",
                "ProvisionedThroughput",
            ),
            **_encryption(request.properties),
        )["TableDescription"]
        self._recover(request)
        return Made(request.name, {"Arn": table["TableArn"]})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Change protection, billing, encryption, recovery and tags."""
        dynamodb = request.client("dynamodb")
        changes = request.only("AttributeDefinitions", "BillingMode", "ProvisionedThroughput")
        changes["DeletionProtectionEnabled"] = request.properties.get("DeletionProtectionEnabled", False)
        if before.get("SSESpecification") != request.properties.get("SSESpecification"):
            changes |= _encryption(request.properties)
        dynamodb.update_table(TableName=made.physical_id, **changes)
        self._recover(request)
        arn = made.attributes["Arn"]
        old = {tag["Key"] for tag in dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]}
        if gone := sorted(old - request.tags.keys()):
            dynamodb.untag_resource(ResourceArn=arn, TagKeys=gone)
        dynamodb.tag_resource(ResourceArn=arn, Tags=request.tag_list())
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it, unless it is protected."""
        request.client("dynamodb").delete_table(TableName=made.physical_id)

    def _recover(self, request: Request) -> None:
        wanted = request.properties.get("PointInTimeRecoverySpecification", {})
        request.client("dynamodb").update_continuous_backups(
            TableName=request.name,
            PointInTimeRecoverySpecification={
                "PointInTimeRecoveryEnabled": wanted.get("PointInTimeRecoveryEnabled", False)
            },
        )


class Bucket(Kind):
    """`AWS::S3::Bucket`."""

    type_name = "AWS::S3::Bucket"
    name_property = "BucketName"

    def create(self, request: Request) -> Made:
        """Create it, then configure it; a name that is taken, by us or another account, is refused."""
        s3 = request.client("s3")
        place = {"LocationConstraint": request.region}
        s3.create_bucket(
            Bucket=request.name,
            ObjectLockEnabledForBucket=bool(request.properties.get("ObjectLockEnabled")),
            **({} if request.region == "us-east-1" else {"CreateBucketConfiguration": place}),
        )
        self._configure(request)
        arn = f"arn:{request.partition}:s3:::{request.name}"
        domain = f"{request.name}.s3.amazonaws.com"
        regional = f"{request.name}.s3.{request.region}.amazonaws.com"
        return Made(request.name, {"Arn": arn, "DomainName": domain, "RegionalDomainName": regional})

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Configure it again."""
        self._configure(request)
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it, if it is empty."""
        request.client("s3").delete_bucket(Bucket=made.physical_id)

    def exists(self, request: Request) -> bool:
        """Whether a bucket has the name: in us-east-1 the API answers its own owner with success."""
        return request.name in {b["Name"] for b in request.client("s3").list_buckets()["Buckets"]}

    def _configure(self, request: Request) -> None:
        s3, given, bucket = request.client("s3"), request.properties, request.name
        if encryption := given.get("BucketEncryption"):
            s3.put_bucket_encryption(
                Bucket=bucket, ServerSideEncryptionConfiguration=_encryption_rules(encryption)
            )
        if block := given.get("PublicAccessBlockConfiguration"):
            s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
        if ownership := given.get("OwnershipControls"):
            s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=ownership)
        if versioning := given.get("VersioningConfiguration"):
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
        if lock := given.get("ObjectLockConfiguration"):
            s3.put_object_lock_configuration(
                Bucket=bucket,
                ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": lock.get("Rule", {})},
            )
        if rules := given.get("LifecycleConfiguration", {}).get("Rules"):
            s3.put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": [_lifecycle_rule(r) for r in rules]}
            )
        # The API takes no tag that begins with `aws:`; CloudFormation sets its own from inside.
        s3_backends[request.account_id][request.partition].put_bucket_tagging(bucket, dict(request.tags))


class BucketPolicy(Kind):
    """`AWS::S3::BucketPolicy`: it replaces what policy the bucket has."""

    type_name = "AWS::S3::BucketPolicy"

    def create(self, request: Request) -> Made:
        """Put it."""
        bucket = request.properties["Bucket"]
        request.client("s3").put_bucket_policy(
            Bucket=bucket, Policy=json.dumps(request.properties["PolicyDocument"])
        )
        return Made(bucket)

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Put it again."""
        return self.create(request)

    def delete(self, request: Request, made: Made) -> None:
        """Remove it."""
        request.client("s3").delete_bucket_policy(Bucket=made.physical_id)


def _encryption(properties: Properties) -> dict[str, Any]:
    given = properties.get("SSESpecification")
    if not given:
        return {}
    return {
        "SSESpecification": {
            "Enabled": given["SSEEnabled"],
            **{name: given[name] for name in ("SSEType", "KMSMasterKeyId") if name in given},
        }
    }


def _encryption_rules(given: Mapping[str, Any]) -> Mapping[str, Any]:
    rules = []
    for rule in given["ServerSideEncryptionConfiguration"]:
        default = rule["ServerSideEncryptionByDefault"]
        renamed = {"KMSMasterKeyID": default["KMSMasterKeyID"]} if "KMSMasterKeyID" in default else {}
        api = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": default["SSEAlgorithm"], **renamed}}
        if "BucketKeyEnabled" in rule:
            api["BucketKeyEnabled"] = rule["BucketKeyEnabled"]
        rules.append(api)
    return {"Rules": rules}


def _lifecycle_rule(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rule as the API spells it: the template gives the days of an expiration directly."""
    rule: dict[str, Any] = {
        "ID": given.get("Id", "rule"),
        "Status": given["Status"],
        "Filter": {"Prefix": given.get("Prefix", "")},
    }
    if "ExpirationInDays" in given:
        rule["Expiration"] = {"Days": given["ExpirationInDays"]}
    if "NoncurrentVersionExpiration" in given:
        rule["NoncurrentVersionExpiration"] = given["NoncurrentVersionExpiration"]
    if "AbortIncompleteMultipartUpload" in given:
        rule["AbortIncompleteMultipartUpload"] = given["AbortIncompleteMultipartUpload"]
    return rule


KINDS: tuple[Kind, ...] = (Table(), Bucket(), BucketPolicy())
