"""Secrets, keys and their aliases."""

import json
import secrets
import string

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request, ResourceError

_KEY_WAIT_DAYS = 30
_FIXED = ("KeySpec", "KeyUsage", "MultiRegion", "Origin")


class Secret(Kind):
    """`AWS::SecretsManager::Secret`: its value is generated, again when the settings of the generation change."""

    type_name = "AWS::SecretsManager::Secret"
    name_property = "Name"

    def create(self, request: Request) -> Made:
        """Create it with a first value; a name that is scheduled for deletion is refused too."""
        arn = request.client("secretsmanager").create_secret(
            Name=request.name,
            SecretString=_value(request.properties),
            Tags=request.tag_list(),
            **request.only("Description", "KmsKeyId"),
        )["ARN"]
        return Made(arn, {"Id": arn})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Overwrite the value only if the properties of the generation change, as AWS does."""
        client = request.client("secretsmanager")
        arn = made.physical_id
        client.update_secret(
            SecretId=arn,
            Description=request.properties.get("Description", ""),
            **request.only("KmsKeyId"),
        )
        named = ("GenerateSecretString", "SecretString")
        if any(before.get(name) != request.properties.get(name) for name in named):
            client.put_secret_value(SecretId=arn, SecretString=_value(request.properties))
        old = {tag["Key"] for tag in client.describe_secret(SecretId=arn).get("Tags", [])}
        if gone := sorted(old - request.tags.keys()):
            client.untag_resource(SecretId=arn, TagKeys=gone)
        client.tag_resource(SecretId=arn, Tags=request.tag_list())
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it at once: CloudFormation leaves no recovery window.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-secretsmanager-secret.html
        """
        request.client("secretsmanager").delete_secret(
            SecretId=made.physical_id, ForceDeleteWithoutRecovery=True
        )


class Key(Kind):
    """`AWS::KMS::Key`."""

    type_name = "AWS::KMS::Key"

    def create(self, request: Request) -> Made:
        """Create it with the policy, spec and usage of the template."""
        kms = request.client("kms")
        tags = [{"TagKey": key, "TagValue": value} for key, value in request.tags.items()]
        key = kms.create_key(
            Policy=json.dumps(request.properties["KeyPolicy"]),
            Tags=tags,
            **request.only("Description", "KeySpec", "KeyUsage", "MultiRegion"),
        )["KeyMetadata"]
        self._rotate(request, key["KeyId"])
        return Made(key["KeyId"], {"Arn": key["Arn"], "KeyId": key["KeyId"]})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Change policy, description, rotation and tags; what a key is cannot change.

        A change of these properties fails and does not replace the key
        (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-kms-key.html).
        """
        for name in _FIXED:
            if before.get(name) != request.properties.get(name):
                raise ResourceError("InvalidRequest", f"You cannot change the {name} of an existing key")
        kms = request.client("kms")
        kms.put_key_policy(
            KeyId=made.physical_id, PolicyName="default", Policy=json.dumps(request.properties["KeyPolicy"])
        )
        kms.update_key_description(
            KeyId=made.physical_id, Description=request.properties.get("Description", "")
        )
        self._rotate(request, made.physical_id)
        old = {tag["TagKey"] for tag in kms.list_resource_tags(KeyId=made.physical_id)["Tags"]}
        if gone := sorted(old - request.tags.keys()):
            kms.untag_resource(KeyId=made.physical_id, TagKeys=gone)
        tags = [{"TagKey": key, "TagValue": value} for key, value in request.tags.items()]
        kms.tag_resource(KeyId=made.physical_id, Tags=tags)
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Schedule its deletion: no key goes at once."""
        days = int(request.properties.get("PendingWindowInDays", _KEY_WAIT_DAYS))
        request.client("kms").schedule_key_deletion(KeyId=made.physical_id, PendingWindowInDays=days)

    def _rotate(self, request: Request, key_id: str) -> None:
        kms = request.client("kms")
        if request.properties.get("EnableKeyRotation"):
            kms.enable_key_rotation(KeyId=key_id)
        elif request.properties.get("KeySpec", "SYMMETRIC_DEFAULT") == "SYMMETRIC_DEFAULT":
            kms.disable_key_rotation(KeyId=key_id)


class Alias(Kind):
    """`AWS::KMS::Alias`. One that is kept keeps its key findable, and its name taken."""

    type_name = "AWS::KMS::Alias"
    name_property = "AliasName"

    def create(self, request: Request) -> Made:
        """Create it."""
        request.client("kms").create_alias(
            AliasName=request.name, TargetKeyId=request.properties["TargetKeyId"]
        )
        return Made(request.name)

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - it has one property
        """Point it at another key."""
        request.client("kms").update_alias(
            AliasName=request.name, TargetKeyId=request.properties["TargetKeyId"]
        )
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it; its name is free again."""
        request.client("kms").delete_alias(AliasName=made.physical_id)


def _value(properties: Properties) -> str:
    if "SecretString" in properties:
        return str(properties["SecretString"])
    how: Properties = properties.get("GenerateSecretString", {})
    letters = string.ascii_letters + string.digits
    generated = "".join(secrets.choice(letters) for _ in range(int(how.get("PasswordLength", 32))))
    if "SecretStringTemplate" not in how:
        return generated
    return json.dumps({**json.loads(how["SecretStringTemplate"]), how["GenerateStringKey"]: generated})


KINDS: tuple[Kind, ...] = (Secret(), Key(), Alias())
