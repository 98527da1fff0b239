"""Log groups, metric filters and dashboards."""

from moto.logs.models import logs_backends

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request


class LogGroup(Kind):
    """`AWS::Logs::LogGroup`."""

    type_name = "AWS::Logs::LogGroup"
    name_property = "LogGroupName"

    def create(self, request: Request) -> Made:
        """Create it with its retention."""
        logs = request.client("logs")
        key = request.properties.get("KmsKeyId")
        logs.create_log_group(
            logGroupName=request.name, tags=dict(request.tags), **({"kmsKeyId": key} if key else {})
        )
        self._retain(request)
        return Made(request.name, {"Arn": f"{request.arn('logs', f'log-group:{request.name}')}:*"})

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Change retention, key and tags."""
        logs = request.client("logs")
        self._retain(request)
        # moto lacks AssociateKmsKey and DisassociateKmsKey.
        group = logs_backends[request.account_id][request.region].groups[made.physical_id]
        group.kms_key_id = request.properties.get("KmsKeyId")
        arn = request.arn("logs", f"log-group:{request.name}")
        old = logs.list_tags_for_resource(resourceArn=arn)["tags"]
        if gone := sorted(old.keys() - request.tags.keys()):
            logs.untag_resource(resourceArn=arn, tagKeys=gone)
        logs.tag_resource(resourceArn=arn, tags=dict(request.tags))
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it with its events."""
        request.client("logs").delete_log_group(logGroupName=made.physical_id)

    def _retain(self, request: Request) -> None:
        logs = request.client("logs")
        if days := request.properties.get("RetentionInDays"):
            logs.put_retention_policy(logGroupName=request.name, retentionInDays=int(days))
        else:
            logs.delete_retention_policy(logGroupName=request.name)


class MetricFilter(Kind):
    """`AWS::Logs::MetricFilter`."""

    type_name = "AWS::Logs::MetricFilter"
    name_property = "FilterName"

    def exists(self, request: Request) -> bool:
        """Whether the log group has a filter of this name: PutMetricFilter would overwrite it."""
        found = request.client("logs").describe_metric_filters(
            logGroupName=request.properties["LogGroupName"], filterNamePrefix=request.name
        )["metricFilters"]
        return any(one["filterName"] == request.name for one in found)

    def create(self, request: Request) -> Made:
        """Put it on its log group, which must exist."""
        given = request.properties
        request.client("logs").put_metric_filter(
            logGroupName=given["LogGroupName"],
            filterName=request.name,
            filterPattern=given["FilterPattern"],
            metricTransformations=[_transformation(one) for one in given["MetricTransformations"]],
        )
        return Made(request.name)

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Put it again."""
        self.create(request)
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it."""
        request.client("logs").delete_metric_filter(
            logGroupName=request.properties["LogGroupName"], filterName=made.physical_id
        )


class Dashboard(Kind):
    """`AWS::CloudWatch::Dashboard`."""

    type_name = "AWS::CloudWatch::Dashboard"
    name_property = "DashboardName"

    def exists(self, request: Request) -> bool:
        """Whether a dashboard has the name: PutDashboard would overwrite it."""
        found = request.client("cloudwatch").list_dashboards(DashboardNamePrefix=request.name)
        return any(one["DashboardName"] == request.name for one in found["DashboardEntries"])

    def create(self, request: Request) -> Made:
        """Put it."""
        request.client("cloudwatch").put_dashboard(
            DashboardName=request.name, DashboardBody=request.properties["DashboardBody"]
        )
        return Made(request.name)

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Put it again."""
        self.create(request)
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it."""
        request.client("cloudwatch").delete_dashboards(DashboardNames=[made.physical_id])


def _transformation(given: Properties) -> dict[str, object]:
    names = {
        "DefaultValue": "defaultValue",
        "MetricName": "metricName",
        "MetricNamespace": "metricNamespace",
        "MetricValue": "metricValue",
        "Unit": "unit",
    }
    api = {names[name]: value for name, value in given.items() if name in names}
    if dimensions := given.get("Dimensions"):
        api["dimensions"] = {one["Key"]: one["Value"] for one in dimensions}
    return api


KINDS: tuple[Kind, ...] = (LogGroup(), MetricFilter(), Dashboard())
