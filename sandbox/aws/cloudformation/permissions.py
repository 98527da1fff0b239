"""Who may invoke a function, beside the roles of its account."""

from sandbox.aws.cloudformation.kinds import Kind, Made, Request


class Permission(Kind):
    """`AWS::Lambda::Permission`. Each of its properties replaces it."""

    type_name = "AWS::Lambda::Permission"

    def create(self, request: Request) -> Made:
        """Add the statement to the function's policy."""
        request.client("lambda").add_permission(
            StatementId=request.name,
            **request.only(
                "Action", "EventSourceToken", "FunctionName", "Principal", "SourceAccount", "SourceArn"
            ),
        )
        return Made(request.name, {"Id": request.name})

    def delete(self, request: Request, made: Made) -> None:
        """Take the statement out of the function's policy."""
        request.client("lambda").remove_permission(
            FunctionName=request.properties["FunctionName"], StatementId=made.physical_id
        )


KINDS: tuple[Kind, ...] = (Permission(),)
