"""Roles and policies, with IAM's quotas (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).

IAM does not count white space.
"""

import json
from collections.abc import Mapping
from typing import Any

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request, ResourceError

MANAGED_POLICY_CHARACTERS = 6_144
INLINE_POLICIES_CHARACTERS = 10_240
"""Of all inline policies of one role together."""
TRUST_POLICY_CHARACTERS = 2_048
MANAGED_POLICIES_OF_ROLE = 10


class Role(Kind):
    """`AWS::IAM::Role`."""

    type_name = "AWS::IAM::Role"
    name_property = "RoleName"

    def create(self, request: Request) -> Made:
        """Create it with its policies; what exists of it is removed if a policy is refused."""
        iam = request.client("iam")
        trust = _within(
            "trust policy", TRUST_POLICY_CHARACTERS, request.properties["AssumeRolePolicyDocument"]
        )
        more = request.only("Path", "Description", "MaxSessionDuration", "PermissionsBoundary")
        role = iam.create_role(
            RoleName=request.name, AssumeRolePolicyDocument=trust, Tags=request.tag_list(), **more
        )["Role"]
        made = Made(request.name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})
        try:
            self._put_policies(request, {})
        except ResourceError:
            self.delete(request, made)
            raise
        return made

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Change everything but name and path."""
        iam = request.client("iam")
        trust = _within(
            "trust policy", TRUST_POLICY_CHARACTERS, request.properties["AssumeRolePolicyDocument"]
        )
        iam.update_assume_role_policy(RoleName=made.physical_id, PolicyDocument=trust)
        iam.update_role(
            RoleName=made.physical_id,
            Description=request.properties.get("Description", ""),
            MaxSessionDuration=request.properties.get("MaxSessionDuration", 3600),
        )
        boundary = request.properties.get("PermissionsBoundary")
        if boundary:
            iam.put_role_permissions_boundary(RoleName=made.physical_id, PermissionsBoundary=boundary)
        elif before.get("PermissionsBoundary"):
            iam.delete_role_permissions_boundary(RoleName=made.physical_id)
        self._put_policies(request, before)
        old = {tag["Key"] for tag in iam.list_role_tags(RoleName=made.physical_id)["Tags"]}
        iam.untag_role(RoleName=made.physical_id, TagKeys=sorted(old - request.tags.keys()))
        iam.tag_role(RoleName=made.physical_id, Tags=request.tag_list())
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it, as far as nothing is attached to it by others."""
        iam = request.client("iam")
        for policy in request.properties.get("Policies", []):
            _delete_inline(iam, made.physical_id, policy["PolicyName"])
        for arn in _customer_managed(request.properties):
            iam.detach_role_policy(RoleName=made.physical_id, PolicyArn=arn)
        iam.delete_role(RoleName=made.physical_id)

    def _put_policies(self, request: Request, before: Properties) -> None:
        iam = request.client("iam")
        wanted = {p["PolicyName"]: p["PolicyDocument"] for p in request.properties.get("Policies", [])}
        for name in {p["PolicyName"] for p in before.get("Policies", [])} - wanted.keys():
            _delete_inline(iam, request.name, name)
        for name, document in wanted.items():
            put_inline(iam, request.name, name, document)
        if len(request.properties.get("ManagedPolicyArns", [])) > MANAGED_POLICIES_OF_ROLE:
            raise ResourceError(
                "ServiceLimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {MANAGED_POLICIES_OF_ROLE}"
            )
        attached, before_attached = _customer_managed(request.properties), _customer_managed(before)
        for arn in before_attached - attached:
            iam.detach_role_policy(RoleName=request.name, PolicyArn=arn)
        for arn in attached - before_attached:
            iam.attach_role_policy(RoleName=request.name, PolicyArn=arn)


class Policy(Kind):
    """`AWS::IAM::Policy`: an inline policy of some roles."""

    type_name = "AWS::IAM::Policy"

    def create(self, request: Request) -> Made:
        """Put it into each role."""
        for role in request.properties.get("Roles", []):
            put_inline(
                request.client("iam"),
                role,
                request.properties["PolicyName"],
                request.properties["PolicyDocument"],
            )
        return Made(request.name)

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Put it again, and remove it from roles that it no longer names."""
        self.create(request)
        for role in set(before.get("Roles", [])) - set(request.properties.get("Roles", [])):
            _delete_inline(request.client("iam"), role, request.properties["PolicyName"])
        return made

    def delete(self, request: Request, made: Made) -> None:  # noqa: ARG002 - it has no id in IAM
        """Remove it from each role."""
        for role in request.properties.get("Roles", []):
            _delete_inline(request.client("iam"), role, request.properties["PolicyName"])


class ManagedPolicy(Kind):
    """`AWS::IAM::ManagedPolicy`."""

    type_name = "AWS::IAM::ManagedPolicy"
    name_property = "ManagedPolicyName"

    def create(self, request: Request) -> Made:
        """Create it and attach it."""
        iam = request.client("iam")
        arn = iam.create_policy(
            PolicyName=request.name,
            PolicyDocument=_within("policy", MANAGED_POLICY_CHARACTERS, request.properties["PolicyDocument"]),
            Tags=request.tag_list(),
            **request.only("Path", "Description"),
        )["Policy"]["Arn"]
        for role in request.properties.get("Roles", []):
            iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        return Made(arn, {"PolicyArn": arn})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Make a new default version of it, and drop the one before."""
        iam = request.client("iam")
        arn = made.physical_id
        document = _within("policy", MANAGED_POLICY_CHARACTERS, request.properties["PolicyDocument"])
        old = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
        iam.delete_policy_version(PolicyArn=arn, VersionId=old)
        wanted, had = set(request.properties.get("Roles", [])), set(before.get("Roles", []))
        for role in had - wanted:
            iam.detach_role_policy(RoleName=role, PolicyArn=arn)
        for role in wanted - had:
            iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        tagged = {tag["Key"] for tag in iam.list_policy_tags(PolicyArn=arn)["Tags"]}
        iam.untag_policy(PolicyArn=arn, TagKeys=sorted(tagged - request.tags.keys()))
        iam.tag_policy(PolicyArn=arn, Tags=request.tag_list())
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Detach it from the roles of the template, and delete it."""
        iam = request.client("iam")
        for role in request.properties.get("Roles", []):
            iam.detach_role_policy(RoleName=role, PolicyArn=made.physical_id)
        iam.delete_policy(PolicyArn=made.physical_id)


def _own_tags(request: Request) -> list[dict[str, str]]:
    return [tag for tag in request.tag_list() if not tag["Key"].startswith("aws:")]


def put_inline(iam: Any, role: str, name: str, document: Mapping[str, Any]) -> None:  # noqa: ANN401 - boto3's
    """Put an inline policy, within the quota of all inline policies of the role.

    Raises:
        ResourceError: It does not fit.
    """
    others = (n for n in iam.list_role_policies(RoleName=role)["PolicyNames"] if n != name)
    used = sum(
        len(_compact(iam.get_role_policy(RoleName=role, PolicyName=other)["PolicyDocument"]))
        for other in others
    )
    text = _compact(document)
    if used + len(text) > INLINE_POLICIES_CHARACTERS:
        raise ResourceError(
            "ServiceLimitExceeded",
            f"Maximum policy size of {INLINE_POLICIES_CHARACTERS} bytes exceeded for role {role}",
        )
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=text)


def _delete_inline(iam: Any, role: str, name: str) -> None:  # noqa: ANN401 - boto3's
    if name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        iam.delete_role_policy(RoleName=role, PolicyName=name)


def _customer_managed(properties: Properties) -> set[str]:
    """Without the policies of AWS, which the sandbox does not know: a role with one has fewer permissions here."""
    return {arn for arn in properties.get("ManagedPolicyArns", []) if ":iam::aws:policy/" not in arn}


def _within(what: str, limit: int, document: Mapping[str, Any]) -> str:
    text = _compact(document)
    if len(text) > limit:
        raise ResourceError("ServiceLimitExceeded", f"Cannot exceed quota for {what} size: {limit}")
    return text


def _compact(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), default=str)


class OidcProvider(Kind):
    """`AWS::IAM::OIDCProvider`. Its ARN is made of its URL, so another URL is another provider.

    It gets no tags of CloudFormation's own (`cloudFormationSystemTags` of its schema is false).
    """

    type_name = "AWS::IAM::OIDCProvider"

    def create(self, request: Request) -> Made:
        """Create it; one of the same URL is in the way."""
        arn = request.client("iam").create_open_id_connect_provider(
            Url=request.properties["Url"],
            ClientIDList=request.properties.get("ClientIdList", []),
            ThumbprintList=request.properties.get("ThumbprintList", []),
            Tags=_own_tags(request),
        )["OpenIDConnectProviderArn"]
        return Made(arn, {"Arn": arn})

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - it asks IAM
        """Change client ids, thumbprints and tags."""
        iam = request.client("iam")
        named = {"OpenIDConnectProviderArn": made.physical_id}
        found = iam.get_open_id_connect_provider(**named)
        wanted, had = set(request.properties.get("ClientIdList", [])), set(found["ClientIDList"])
        for client_id in sorted(wanted - had):
            iam.add_client_id_to_open_id_connect_provider(**named, ClientID=client_id)
        for client_id in sorted(had - wanted):
            iam.remove_client_id_from_open_id_connect_provider(**named, ClientID=client_id)
        if "ThumbprintList" in request.properties:
            iam.update_open_id_connect_provider_thumbprint(
                **named, ThumbprintList=request.properties["ThumbprintList"]
            )
        tags = _own_tags(request)
        gone = {tag["Key"] for tag in found.get("Tags", [])} - {tag["Key"] for tag in tags}
        if gone:
            iam.untag_open_id_connect_provider(**named, TagKeys=sorted(gone))
        iam.tag_open_id_connect_provider(**named, Tags=tags)
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it; roles that trust it can no longer be assumed by its tokens."""
        request.client("iam").delete_open_id_connect_provider(OpenIDConnectProviderArn=made.physical_id)


KINDS: tuple[Kind, ...] = (Role(), Policy(), ManagedPolicy(), OidcProvider())
