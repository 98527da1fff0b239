"""Where functions run: in the VPC of the databases, behind security groups that exist or one that is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from cdk.deployment import Deployment
from cdk.estate import Vpc


@dataclass(frozen=True, kw_only=True)
class Network:
    """The VPC that exists, and what lets functions out.

    Attributes:
        groups: The security groups of the function that logs in to the databases.
        groups_of_others: Those of the other functions, if they are in the VPC too.
    """

    vpc: ec2.IVpc
    groups: Sequence[ec2.ISecurityGroup]
    groups_of_others: Sequence[ec2.ISecurityGroup] | None

    @classmethod
    def of(cls, scope: Construct, deployment: Deployment) -> Self | None:
        """The network of the settings; None: functions are in no VPC.

        Args:
            scope: The parent of a group that is made.
            deployment: Its plan names the databases' ports.
        """
        settings = deployment.settings.vpc
        if settings is None:
            return None
        vpc = ec2.Vpc.from_vpc_attributes(
            scope,
            "Vpc",
            vpc_id=settings.id,
            availability_zones=list(settings.availability_zones),
            private_subnet_ids=list(settings.subnet_ids),
        )
        groups: list[ec2.ISecurityGroup] = [
            ec2.SecurityGroup.from_security_group_id(scope, f"Group-{group}", group, mutable=False)
            for group in settings.security_group_ids
        ]
        others = settings.functions == "all"
        return cls(
            vpc=vpc,
            groups=groups or [_for_databases(scope, vpc, settings, deployment)],
            groups_of_others=(groups or [_for_services(scope, vpc)]) if others else None,
        )

    def groups_for(self, step: str) -> Sequence[ec2.ISecurityGroup] | None:
        """The security groups of a step's function; None: it is not in the VPC."""
        return self.groups if step == "apply_db" else self.groups_of_others


def _for_databases(
    scope: Construct, vpc: ec2.IVpc, settings: Vpc, deployment: Deployment
) -> ec2.SecurityGroup:
    group = ec2.SecurityGroup(
        scope,
        "ApplyDbGroup",
        vpc=vpc,
        description="Lockstep: the function that logs in to the databases",
        allow_all_outbound=False,
    )
    for port in sorted({server.port for server in deployment.plan.databases}):
        for cidr in settings.database_cidrs:
            group.add_egress_rule(ec2.Peer.ipv4(cidr), ec2.Port.tcp(port), "databases")
    _let_out(group)
    return group


def _for_services(scope: Construct, vpc: ec2.IVpc) -> ec2.SecurityGroup:
    group = ec2.SecurityGroup(
        scope,
        "OtherFunctionsGroup",
        vpc=vpc,
        description="Lockstep: the functions that do not reach the databases",
        allow_all_outbound=False,
    )
    _let_out(group)
    return group


def _let_out(group: ec2.SecurityGroup) -> None:
    group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "Secrets Manager, DynamoDB, OCI")
