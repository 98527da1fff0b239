"""What `cdk bootstrap` makes in an account, beside roles and the staging bucket."""

import json

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request


class Parameter(Kind):
    """`AWS::SSM::Parameter`."""

    type_name = "AWS::SSM::Parameter"
    name_property = "Name"

    def create(self, request: Request) -> Made:
        """Put it, unless it exists."""
        request.client("ssm").put_parameter(
            Name=request.name, **request.only("Type", "Value", "Description"), Tags=request.tag_list()
        )
        return Made(request.name, {"Type": request.properties["Type"], "Value": request.properties["Value"]})

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Overwrite it."""
        request.client("ssm").put_parameter(
            Name=request.name, **request.only("Type", "Value", "Description"), Overwrite=True
        )
        return Made(made.physical_id, {**made.attributes, "Value": request.properties["Value"]})

    def delete(self, request: Request, made: Made) -> None:
        """Delete it."""
        request.client("ssm").delete_parameter(Name=made.physical_id)


class Repository(Kind):
    """`AWS::ECR::Repository`."""

    type_name = "AWS::ECR::Repository"
    name_property = "RepositoryName"

    def create(self, request: Request) -> Made:
        """Create it with its policies."""
        mutability = request.properties.get("ImageTagMutability")
        repository = request.client("ecr").create_repository(
            repositoryName=request.name,
            tags=request.tag_list(),
            **({"imageTagMutability": mutability} if mutability else {}),
        )["repository"]
        self._put_policies(request)
        return Made(
            request.name, {"Arn": repository["repositoryArn"], "RepositoryUri": repository["repositoryUri"]}
        )

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Put its policies again."""
        self._put_policies(request)
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it, if it is empty."""
        request.client("ecr").delete_repository(repositoryName=made.physical_id)

    def _put_policies(self, request: Request) -> None:
        ecr = request.client("ecr")
        if document := request.properties.get("RepositoryPolicyText"):
            ecr.set_repository_policy(repositoryName=request.name, policyText=json.dumps(document))
        if lifecycle := request.properties.get("LifecyclePolicy", {}).get("LifecyclePolicyText"):
            ecr.put_lifecycle_policy(repositoryName=request.name, lifecyclePolicyText=lifecycle)


KINDS: tuple[Kind, ...] = (Parameter(), Repository())
