"""Security groups."""

from collections.abc import Mapping
from typing import Any

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request


class SecurityGroup(Kind):
    """`AWS::EC2::SecurityGroup`."""

    type_name = "AWS::EC2::SecurityGroup"
    name_property = "GroupName"

    def create(self, request: Request) -> Made:
        """Create it in its VPC, which must exist, with exactly the rules of the template."""
        ec2 = request.client("ec2")
        vpc = request.properties.get("VpcId")
        group = ec2.create_security_group(
            GroupName=request.name,
            Description=request.properties["GroupDescription"],
            **({"VpcId": vpc} if vpc else {}),
            **(
                {"TagSpecifications": [{"ResourceType": "security-group", "Tags": request.tag_list()}]}
                if request.tags
                else {}
            ),
        )["GroupId"]
        if egress := _permissions(request.properties, "SecurityGroupEgress"):
            everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
            ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[everything])
            ec2.authorize_security_group_egress(GroupId=group, IpPermissions=egress)
        if ingress := _permissions(request.properties, "SecurityGroupIngress"):
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=ingress)
        return Made(group, {"GroupId": group, "Id": group, "VpcId": vpc or ""})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Change its rules and tags."""
        ec2 = request.client("ec2")
        for name, side in (("SecurityGroupEgress", "egress"), ("SecurityGroupIngress", "ingress")):
            old, new = _permissions(before, name), _permissions(request.properties, name)
            if gone := [one for one in old if one not in new]:
                getattr(ec2, f"revoke_security_group_{side}")(GroupId=made.physical_id, IpPermissions=gone)
            if added := [one for one in new if one not in old]:
                getattr(ec2, f"authorize_security_group_{side}")(
                    GroupId=made.physical_id, IpPermissions=added
                )
        group = ec2.describe_security_groups(GroupIds=[made.physical_id])["SecurityGroups"][0]
        if gone_tags := [t for t in group.get("Tags", []) if t["Key"] not in request.tags]:
            ec2.delete_tags(Resources=[made.physical_id], Tags=gone_tags)
        if request.tags:
            ec2.create_tags(Resources=[made.physical_id], Tags=request.tag_list())
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it, if nothing uses it."""
        request.client("ec2").delete_security_group(GroupId=made.physical_id)


class SecurityGroupEgress(Kind):
    """`AWS::EC2::SecurityGroupEgress`: one rule of a group."""

    type_name = "AWS::EC2::SecurityGroupEgress"

    def create(self, request: Request) -> Made:
        """Add the rule."""
        request.client("ec2").authorize_security_group_egress(
            GroupId=request.properties["GroupId"],
            IpPermissions=[_permission(request.properties, "Destination")],
        )
        return Made(request.name, {"Id": request.name})

    def delete(self, request: Request, made: Made) -> None:  # noqa: ARG002 - found by its content
        """Remove the rule."""
        request.client("ec2").revoke_security_group_egress(
            GroupId=request.properties["GroupId"],
            IpPermissions=[_permission(request.properties, "Destination")],
        )


def _permissions(properties: Properties, name: str) -> list[dict[str, Any]]:
    other = "Destination" if name.endswith("Egress") else "Source"
    return [_permission(rule, other) for rule in properties.get(name, [])]


def _permission(rule: Mapping[str, Any], other: str) -> dict[str, Any]:
    """A rule of a template as the API spells it."""
    described = {"Description": rule["Description"]} if "Description" in rule else {}
    permission: dict[str, Any] = {"IpProtocol": str(rule["IpProtocol"])}
    for name in ("FromPort", "ToPort"):
        if name in rule:
            permission[name] = int(rule[name])
    if "CidrIp" in rule:
        permission["IpRanges"] = [{"CidrIp": rule["CidrIp"], **described}]
    if group := rule.get(f"{other}SecurityGroupId"):
        permission["UserIdGroupPairs"] = [{"GroupId": group, **described}]
    if prefix_list := rule.get(f"{other}PrefixListId"):
        permission["PrefixListIds"] = [{"PrefixListId": prefix_list, **described}]
    return permission


KINDS: tuple[Kind, ...] = (SecurityGroup(), SecurityGroupEgress())
