"""CloudFormation's alarms and topic policies, which moto lacks."""

import json
from collections.abc import Mapping
from typing import Any

from moto.cloudformation.exceptions import UnformattedGetAttTemplateException, ValidationError
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.sns.models import sns_backends

from sandbox.aws.patching import Foreign

_NO_MATHS = "the sandbox evaluates alarms on one metric with a statistic, and this one has {}"


class Alarm(CloudFormationModel):
    """`AWS::CloudWatch::Alarm`, on one metric."""

    def __init__(self, name: str, arn: str) -> None:
        self.name = name
        self.arn = arn

    @property
    def physical_resource_id(self) -> str:
        """The result of `Ref`."""
        return self.name

    @staticmethod
    def cloudformation_name_type() -> str:
        """The property that names it."""
        return "AlarmName"

    @staticmethod
    def cloudformation_type() -> str:
        """The type in a template."""
        return "AWS::CloudWatch::Alarm"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Whether `Fn::GetAtt` knows it."""
        return attr == "Arn"

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
    ) -> "Alarm":
        """Make the alarm."""
        properties = cloudformation_json["Properties"]
        for lacking in ("Metrics", "ExtendedStatistic", "ThresholdMetricId"):
            if lacking in properties:
                raise ValidationError(message=_NO_MATHS.format(lacking))
        alarm = cloudwatch_backends[account_id][region_name].put_metric_alarm(
            name=resource_name,
            namespace=properties["Namespace"],
            metric_name=properties["MetricName"],
            comparison_operator=properties["ComparisonOperator"],
            evaluation_periods=int(properties["EvaluationPeriods"]),
            datapoints_to_alarm=int(properties.get("DatapointsToAlarm", properties["EvaluationPeriods"])),
            period=int(properties["Period"]),
            threshold=float(properties["Threshold"]),
            statistic=properties["Statistic"],
            description=properties.get("AlarmDescription", ""),
            dimensions=properties.get("Dimensions", []),
            alarm_actions=properties.get("AlarmActions", []),
            ok_actions=properties.get("OKActions", []),
            insufficient_data_actions=properties.get("InsufficientDataActions", []),
            treat_missing_data=properties.get("TreatMissingData", "missing"),
            tags=properties.get("Tags"),
        )
        return cls(alarm.name, alarm.alarm_arn)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: "Alarm",
        new_resource_name: str,
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> "Alarm":
        """Put the alarm again; one with another name replaces it."""
        made = cls.create_from_cloudformation_json(
            new_resource_name, cloudformation_json, account_id, region_name
        )
        if original_resource.name != made.name:
            cloudwatch_backends[account_id][region_name].delete_alarms([original_resource.name])
        return made

    @classmethod
    def delete_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Mapping[str, Any],  # noqa: ARG003 - moto gives it
        account_id: str,
        region_name: str,
    ) -> None:
        """Delete the alarm."""
        cloudwatch_backends[account_id][region_name].delete_alarms([resource_name])


class TopicPolicy(CloudFormationModel):
    """`AWS::SNS::TopicPolicy`: it replaces the policy that a topic begins with."""

    physical_resource_id = "topic-policy"

    @staticmethod
    def cloudformation_name_type() -> str:
        """None: the resource has no name."""
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        """The type in a template."""
        return "AWS::SNS::TopicPolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,  # noqa: ARG003 - moto names it
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
        **_more: Foreign,
    ) -> "TopicPolicy":
        """Put the policy."""
        properties = cloudformation_json["Properties"]
        for arn in properties["Topics"]:
            topic: Foreign = sns_backends[account_id][region_name].get_topic(arn)
            topic.policy = json.dumps(properties["PolicyDocument"])
        return cls()

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: "TopicPolicy",  # noqa: ARG003 - moto gives it
        new_resource_name: str,
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> "TopicPolicy":
        """Put the policy again."""
        return cls.create_from_cloudformation_json(
            new_resource_name, cloudformation_json, account_id, region_name
        )

    @classmethod
    def delete_from_cloudformation_json(
        cls,
        resource_name: str,  # noqa: ARG003 - moto names it
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> None:
        """Give each topic that is left the policy that it began with."""
        backend = sns_backends[account_id][region_name]
        for arn in cloudformation_json["Properties"]["Topics"]:
            topic: Foreign = backend.topics.get(arn)
            if topic:
                topic.policy = json.dumps(
                    topic._create_default_topic_policy(region_name, account_id, topic.name)  # noqa: SLF001 - of moto
                )


KINDS: Mapping[str, type[CloudFormationModel]] = {
    kind.cloudformation_type(): kind for kind in (Alarm, TopicPolicy)
}
"""By their types in a template."""
