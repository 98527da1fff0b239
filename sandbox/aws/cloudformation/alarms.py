"""Alarms and topic policies."""

import json

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request, ResourceError

_LACKING = ("Metrics", "ExtendedStatistic", "ThresholdMetricId")
_SETTINGS = (
    "ActionsEnabled",
    "AlarmActions",
    "AlarmDescription",
    "ComparisonOperator",
    "DatapointsToAlarm",
    "Dimensions",
    "EvaluationPeriods",
    "InsufficientDataActions",
    "MetricName",
    "Namespace",
    "OKActions",
    "Period",
    "Statistic",
    "Threshold",
    "TreatMissingData",
    "Unit",
)


class Alarm(Kind):
    """`AWS::CloudWatch::Alarm`, on one metric with a statistic."""

    type_name = "AWS::CloudWatch::Alarm"
    name_property = "AlarmName"

    def exists(self, request: Request) -> bool:
        """Whether an alarm has the name: PutMetricAlarm would overwrite it."""
        return bool(request.client("cloudwatch").describe_alarms(AlarmNames=[request.name])["MetricAlarms"])

    def create(self, request: Request) -> Made:
        """Put it."""
        self._put(request)
        return Made(request.name, {"Arn": request.arn("cloudwatch", f"alarm:{request.name}")})

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Put it again, with its tags, which PutMetricAlarm leaves as they are."""
        cloudwatch = request.client("cloudwatch")
        self._put(request)
        arn = made.attributes["Arn"]
        old = {tag["Key"] for tag in cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"]}
        if gone := sorted(old - request.tags.keys()):
            cloudwatch.untag_resource(ResourceARN=arn, TagKeys=gone)
        if request.tags:
            cloudwatch.tag_resource(ResourceARN=arn, Tags=request.tag_list())
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it."""
        request.client("cloudwatch").delete_alarms(AlarmNames=[made.physical_id])

    def _put(self, request: Request) -> None:
        for lacking in _LACKING:
            if lacking in request.properties:
                raise ResourceError(
                    "InvalidRequest",
                    f"the sandbox evaluates alarms on one metric with a statistic, and this one has {lacking}",
                )
        request.client("cloudwatch").put_metric_alarm(
            AlarmName=request.name, Tags=request.tag_list(), **request.only(*_SETTINGS)
        )


class TopicPolicy(Kind):
    """`AWS::SNS::TopicPolicy`: it replaces the policy that a topic begins with."""

    type_name = "AWS::SNS::TopicPolicy"

    def create(self, request: Request) -> Made:
        """Put it on each topic."""
        for arn in request.properties["Topics"]:
            self._put(request, arn, request.properties["PolicyDocument"])
        return Made(request.name, {"Id": request.name})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Put it again; a topic that it no longer names gets the policy that topics begin with."""
        self.create(request)
        for arn in set(before["Topics"]) - set(request.properties["Topics"]):
            self._reset(request, arn)
        return made

    def delete(self, request: Request, made: Made) -> None:  # noqa: ARG002 - it has no id in SNS
        """Give each topic the policy that topics begin with."""
        for arn in request.properties["Topics"]:
            self._reset(request, arn)

    def _reset(self, request: Request, arn: str) -> None:
        """https://docs.aws.amazon.com/sns/latest/dg/sns-access-policy-use-cases.html."""
        owner = {
            "Sid": "__default_statement_ID",
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": [
                "SNS:GetTopicAttributes",
                "SNS:SetTopicAttributes",
                "SNS:AddPermission",
                "SNS:RemovePermission",
                "SNS:DeleteTopic",
                "SNS:Subscribe",
                "SNS:ListSubscriptionsByTopic",
                "SNS:Publish",
            ],
            "Resource": arn,
            "Condition": {"StringEquals": {"AWS:SourceOwner": request.account_id}},
        }
        self._put(request, arn, {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [owner]})

    def _put(self, request: Request, arn: str, document: Properties) -> None:
        request.client("sns").set_topic_attributes(
            TopicArn=arn, AttributeName="Policy", AttributeValue=json.dumps(document)
        )


KINDS: tuple[Kind, ...] = (Alarm(), TopicPolicy())
