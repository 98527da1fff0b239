"""CloudFormation as on AWS, where moto ignores something silently.

Each function corrects one thing. `NOT_EMULATED` lists the types that stay ignored. A type that is neither there nor in
moto fails the deployment, as an unknown type does on AWS.
"""

import json
import re
import secrets
import string
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from moto.cloudformation.exceptions import UnformattedGetAttTemplateException, ValidationError
from moto.core.common_models import CloudFormationModel
from moto.iam.access_control import PermissionResult
from moto.kms.models import kms_backends
from moto.s3.models import s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.utilities.utils import get_partition

from sandbox.aws import cfn_alarms
from sandbox.aws.patching import Foreign, Patches

NOT_EMULATED = frozenset(
    {
        "AWS::CDK::Metadata",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::Logs::MetricFilter",
        "AWS::SQS::QueuePolicy",
    }
)
"""Types that are accepted and have no effect. No call of a rotation depends on them."""

_PARSING = "moto.cloudformation.parsing"
_SUBSTITUTION = re.compile(r"\$\{(\w+)\}")


def apply(patches: Patches) -> None:
    """Make moto's CloudFormation deploy the whole stack."""
    make_what_moto_lacks(patches)
    make_keys_of_their_spec(patches)
    substitute_definitions(patches)
    make_buckets_whole(patches)
    leave_bucket_policies_to_the_guard(patches)


class Secret(CloudFormationModel):
    """`AWS::SecretsManager::Secret`: its value is generated, again when the settings of the generation change."""

    def __init__(self, arn: str, name: str) -> None:
        self.arn = arn
        self.name = name

    @property
    def physical_resource_id(self) -> str:
        """The result of `Ref`."""
        return self.arn

    @staticmethod
    def cloudformation_name_type() -> str:
        """The property that names it."""
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        """The type in a template."""
        return "AWS::SecretsManager::Secret"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Whether `Fn::GetAtt` knows it."""
        return attr == "Id"

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """`Fn::GetAtt`."""
        if not self.has_cfn_attr(attribute_name):
            raise UnformattedGetAttTemplateException
        return self.arn

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
        **_more: Foreign,
    ) -> "Secret":
        """Make the secret."""
        properties = cloudformation_json["Properties"]
        backend = secretsmanager_backends[account_id][region_name]
        backend.create_secret(
            name=resource_name,
            secret_string=_generated(properties["GenerateSecretString"]),
            secret_binary=None,
            description=properties.get("Description"),
            tags=properties.get("Tags", []),
            kms_key_id=properties.get("KmsKeyId"),
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )
        return cls(backend.secrets[resource_name].arn, resource_name)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: "Secret",
        new_resource_name: str,  # noqa: ARG003 - moto names it
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> "Secret":
        """Overwrite the value, as AWS does when the properties of the generation change."""
        backend: Foreign = secretsmanager_backends[account_id][region_name]
        backend.put_secret_value(
            secret_id=original_resource.name,
            secret_string=_generated(cloudformation_json["Properties"]["GenerateSecretString"]),
            secret_binary=None,
            client_request_token=secrets.token_hex(16),
            version_stages=["AWSCURRENT"],
        )
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Mapping[str, Any], account_id: str, region_name: str
    ) -> None:
        """Keep the secret: the stack retains it, and moto ignores DeletionPolicy."""


class BucketPolicy(CloudFormationModel):
    """`AWS::S3::BucketPolicy`."""

    physical_resource_id = "bucket-policy"

    @staticmethod
    def cloudformation_name_type() -> str:
        """None: the resource has no name."""
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        """The type in a template."""
        return "AWS::S3::BucketPolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,  # noqa: ARG003 - moto names it
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
        **_more: Foreign,
    ) -> "BucketPolicy":
        """Put the policy."""
        properties = cloudformation_json["Properties"]
        backend = s3_backends[account_id][get_partition(region_name)]
        backend.put_bucket_policy(properties["Bucket"], json.dumps(properties["PolicyDocument"]).encode())
        return cls()

    @classmethod
    def delete_from_cloudformation_json(
        cls,
        resource_name: str,  # noqa: ARG003 - moto names it
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> None:
        """Remove the policy."""
        backend = s3_backends[account_id][get_partition(region_name)]
        backend.delete_bucket_policy(cloudformation_json["Properties"]["Bucket"])


_LACKING: Mapping[str, type[CloudFormationModel]] = {
    **{kind.cloudformation_type(): kind for kind in (Secret, BucketPolicy)},
    **cfn_alarms.KINDS,
}


def make_what_moto_lacks(patches: Patches) -> None:
    """Secrets and bucket policies are created; unknown types fail.

    `NOT_EMULATED` lists the ignored types, so moto need not warn about them.
    """

    def class_wrapper(original: Foreign) -> object:
        def resource_class_from_type(resource_type: str) -> object:
            if resource_type in _LACKING:
                return _LACKING[resource_type]
            found = original(resource_type)
            if found is None and resource_type not in NOT_EMULATED:
                raise ValidationError(message=f"the sandbox knows no resource of type {resource_type}")
            return found

        return resource_class_from_type

    def name_wrapper(original: Foreign) -> object:
        def resource_name_property_from_type(resource_type: str) -> object:
            kind = _LACKING.get(resource_type)
            return kind.cloudformation_name_type() if kind else original(resource_type)

        return resource_name_property_from_type

    patches.replace(f"{_PARSING}:warnings", SimpleNamespace(warn=lambda *_, **__: None))
    patches.wrap(f"{_PARSING}:resource_class_from_type", class_wrapper)
    patches.wrap(f"{_PARSING}:resource_name_property_from_type", name_wrapper)


def make_keys_of_their_spec(patches: Patches) -> None:
    """A key has the KeySpec and KeyUsage of its template; moto creates every key for symmetric encryption."""

    def create(
        _cls: Foreign,
        /,
        _resource_name: str,
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
        **_more: Foreign,
    ) -> object:
        properties = cloudformation_json["Properties"]
        key = kms_backends[account_id][region_name].create_key(
            policy=json.dumps(properties["KeyPolicy"]),
            key_usage=properties.get("KeyUsage", "ENCRYPT_DECRYPT"),
            key_spec=properties.get("KeySpec", "SYMMETRIC_DEFAULT"),
            description=properties.get("Description", ""),
            # KMS names the parts of a tag in its own way.
            tags=[{"TagKey": t["Key"], "TagValue": t["Value"]} for t in properties.get("Tags", [])],
        )
        key.key_rotation_status = properties.get("EnableKeyRotation", False)
        return key

    patches.replace("moto.kms.models:Key.create_from_cloudformation_json", classmethod(create))


def substitute_definitions(patches: Patches) -> None:
    """`DefinitionSubstitutions` are replaced in the definition; moto ignores them.

    A `${Name}` without a substitution stays unchanged, as on AWS.
    """

    def wrapper(original: Foreign) -> object:
        def create(
            cls: Foreign,
            /,
            resource_name: str,
            cloudformation_json: dict[str, Any],
            *rest: Foreign,
            **more: Foreign,
        ) -> object:
            properties = cloudformation_json["Properties"]
            given = properties.get("DefinitionSubstitutions", {})
            definition = _SUBSTITUTION.sub(
                lambda found: str(given.get(found[1], found[0])), properties["DefinitionString"]
            )
            substituted = {"Properties": {**properties, "DefinitionString": definition}}
            return original.__func__(cls, resource_name, substituted, *rest, **more)

        return classmethod(create)

    target = "moto.stepfunctions.models:StateMachine.create_from_cloudformation_json"
    patches.wrap(target, wrapper)


def make_buckets_whole(patches: Patches) -> None:
    """A bucket gets versioning, Object Lock and the block of public access; moto applies encryption and tags only."""

    def wrapper(original: Foreign) -> object:
        def create(
            cls: Foreign,
            /,
            resource_name: str,
            cloudformation_json: dict[str, Any],
            account_id: str,
            region_name: str,
            **more: Foreign,
        ) -> object:
            bucket = original.__func__(
                cls, resource_name, cloudformation_json, account_id, region_name, **more
            )
            properties = cloudformation_json.get("Properties", {})
            backend = s3_backends[account_id][get_partition(region_name)]
            if "VersioningConfiguration" in properties:
                backend.put_bucket_versioning(resource_name, properties["VersioningConfiguration"]["Status"])
            if "PublicAccessBlockConfiguration" in properties:
                backend.put_public_access_block(resource_name, properties["PublicAccessBlockConfiguration"])
            if properties.get("ObjectLockEnabled"):
                retention = (
                    properties.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
                )
                bucket.object_lock_enabled = True
                backend.put_object_lock_configuration(
                    resource_name,
                    True,
                    retention.get("Mode"),
                    retention.get("Days", 0),
                    retention.get("Years", 0),
                )
            return bucket

        return classmethod(create)

    patches.wrap("moto.s3.models:FakeBucket.create_from_cloudformation_json", wrapper)


def leave_bucket_policies_to_the_guard(patches: Patches) -> None:
    """Bucket policies are evaluated with their conditions. moto ignores them, so a policy against HTTP refuses all."""

    def get_permission(_bucket: Foreign, _action: str, _resource: str) -> object:
        return PermissionResult.NEUTRAL

    patches.replace("moto.s3.models:FakeBucket.get_permission", get_permission)


def _generated(how: Mapping[str, Any]) -> str:
    document = json.loads(how["SecretStringTemplate"])
    letters = string.ascii_letters + string.digits
    document[how["GenerateStringKey"]] = "".join(
        secrets.choice(letters) for _ in range(int(how.get("PasswordLength", 32)))
    )
    return json.dumps(document)
