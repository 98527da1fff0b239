"""Rules, queues and topics."""

import json
from typing import Any

from sandbox.aws.cloudformation.kinds import Kind, Made, Properties, Request, ResourceError

RULES = 300
"""Rules of an event bus (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html)."""
QUEUE_POLICY_STATEMENTS = 20
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html."""
_QUEUE_ATTRIBUTES = (
    "DelaySeconds",
    "KmsMasterKeyId",
    "MessageRetentionPeriod",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
)


class Rule(Kind):
    """`AWS::Events::Rule` with its targets."""

    type_name = "AWS::Events::Rule"
    name_property = "Name"

    def exists(self, request: Request) -> bool:
        """Whether a rule has the name: PutRule would overwrite it."""
        return request.name in self._names(request)

    def create(self, request: Request) -> Made:
        """Put the rule, within the quota of the bus."""
        if len(self._names(request)) >= RULES:
            raise ResourceError(
                "ServiceLimitExceeded",
                f"The requested resource exceeds the maximum number allowed: {RULES} rules.",
            )
        arn = self._put(request)
        return Made(request.name, {"Arn": arn, "RuleName": request.name})

    def update(self, request: Request, made: Made, before: Properties) -> Made:
        """Put it again, without the targets that are gone."""
        gone = {t["Id"] for t in before.get("Targets", [])} - {
            t["Id"] for t in request.properties.get("Targets", [])
        }
        if gone:
            request.client("events").remove_targets(Rule=made.physical_id, Ids=sorted(gone))
        arn = self._put(request)
        # PutRule leaves the tags of a rule that exists as they are.
        events = request.client("events")
        old = {tag["Key"] for tag in events.list_tags_for_resource(ResourceARN=arn)["Tags"]}
        events.untag_resource(ResourceARN=arn, TagKeys=sorted(old - request.tags.keys()))
        events.tag_resource(ResourceARN=arn, Tags=request.tag_list())
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it; its targets go first."""
        events = request.client("events")
        targets = [t["Id"] for t in events.list_targets_by_rule(Rule=made.physical_id)["Targets"]]
        if targets:
            events.remove_targets(Rule=made.physical_id, Ids=targets)
        events.delete_rule(Name=made.physical_id)

    def _put(self, request: Request) -> str:
        events = request.client("events")
        pattern = request.properties.get("EventPattern")
        arn: str = events.put_rule(
            Name=request.name,
            Tags=request.tag_list(),
            **request.only("Description", "RoleArn", "ScheduleExpression", "State"),
            **({"EventPattern": json.dumps(pattern)} if pattern else {}),
        )["RuleArn"]
        if targets := request.properties.get("Targets"):
            failed = events.put_targets(Rule=request.name, Targets=targets)["FailedEntries"]
            if failed:
                raise ResourceError("InvalidRequest", str(failed))
        return arn

    def _names(self, request: Request) -> set[str]:
        pages = request.client("events").get_paginator("list_rules").paginate()
        return {rule["Name"] for page in pages for rule in page["Rules"]}


class Queue(Kind):
    """`AWS::SQS::Queue`."""

    type_name = "AWS::SQS::Queue"
    name_property = "QueueName"

    def exists(self, request: Request) -> bool:
        """Whether a queue has the name: CreateQueue with the same attributes would answer with success."""
        urls = request.client("sqs").list_queues(QueueNamePrefix=request.name).get("QueueUrls", [])
        return any(url.rpartition("/")[2] == request.name for url in urls)

    def create(self, request: Request) -> Made:
        """Create it."""
        url = request.client("sqs").create_queue(
            QueueName=request.name, Attributes=self._attributes(request), tags=dict(request.tags)
        )["QueueUrl"]
        return Made(
            url, {"Arn": request.arn("sqs", request.name), "QueueName": request.name, "QueueUrl": url}
        )

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Change attributes and tags."""
        sqs = request.client("sqs")
        sqs.set_queue_attributes(QueueUrl=made.physical_id, Attributes=self._attributes(request))
        old = sqs.list_queue_tags(QueueUrl=made.physical_id).get("Tags", {})
        if gone := sorted(old.keys() - request.tags.keys()):
            sqs.untag_queue(QueueUrl=made.physical_id, TagKeys=gone)
        if request.tags:
            sqs.tag_queue(QueueUrl=made.physical_id, Tags=dict(request.tags))
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it with its messages."""
        request.client("sqs").delete_queue(QueueUrl=made.physical_id)

    def _attributes(self, request: Request) -> dict[str, str]:
        return {name: _text(value) for name, value in request.only(*_QUEUE_ATTRIBUTES).items()}


class QueuePolicy(Kind):
    """`AWS::SQS::QueuePolicy`: it replaces the policy of each queue."""

    type_name = "AWS::SQS::QueuePolicy"

    def create(self, request: Request) -> Made:
        """Put it, within the quota of statements."""
        document = request.properties["PolicyDocument"]
        count = len(document["Statement"])
        if count > QUEUE_POLICY_STATEMENTS:
            raise ResourceError(
                "ServiceLimitExceeded",
                f"Policy has {count} statements; a queue policy has {QUEUE_POLICY_STATEMENTS} at most",
            )
        for url in request.properties["Queues"]:
            request.client("sqs").set_queue_attributes(
                QueueUrl=url, Attributes={"Policy": json.dumps(document)}
            )
        return Made(request.name, {"Id": request.name})

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Put it again."""
        self.create(request)
        return made

    def delete(self, request: Request, made: Made) -> None:  # noqa: ARG002 - it has no id in SQS
        """Remove it."""
        for url in request.properties["Queues"]:
            request.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})


class Topic(Kind):
    """`AWS::SNS::Topic`."""

    type_name = "AWS::SNS::Topic"
    name_property = "TopicName"

    def exists(self, request: Request) -> bool:
        """Whether a topic has the name: CreateTopic would answer with the one that is there."""
        arn = request.arn("sns", request.name)
        pages = request.client("sns").get_paginator("list_topics").paginate()
        return any(topic["TopicArn"] == arn for page in pages for topic in page["Topics"])

    def create(self, request: Request) -> Made:
        """Create it with the subscriptions of the template."""
        sns = request.client("sns")
        arn = sns.create_topic(
            Name=request.name, Attributes=self._attributes(request), Tags=request.tag_list()
        )["TopicArn"]
        for subscription in request.properties.get("Subscription", []):
            sns.subscribe(TopicArn=arn, **subscription)
        return Made(arn, {"TopicArn": arn, "TopicName": request.name})

    def update(self, request: Request, made: Made, before: Properties) -> Made:  # noqa: ARG002 - all is written
        """Change attributes and tags."""
        sns = request.client("sns")
        for name, value in self._attributes(request).items():
            sns.set_topic_attributes(TopicArn=made.physical_id, AttributeName=name, AttributeValue=value)
        old = {tag["Key"] for tag in sns.list_tags_for_resource(ResourceArn=made.physical_id)["Tags"]}
        if gone := sorted(old - request.tags.keys()):
            sns.untag_resource(ResourceArn=made.physical_id, TagKeys=gone)
        if request.tags:
            sns.tag_resource(ResourceArn=made.physical_id, Tags=request.tag_list())
        return made

    def delete(self, request: Request, made: Made) -> None:
        """Delete it with its subscriptions."""
        request.client("sns").delete_topic(TopicArn=made.physical_id)

    def _attributes(self, request: Request) -> dict[str, str]:
        return {name: _text(value) for name, value in request.only("DisplayName", "KmsMasterKeyId").items()}


class Subscription(Kind):
    """`AWS::SNS::Subscription`."""

    type_name = "AWS::SNS::Subscription"

    def create(self, request: Request) -> Made:
        """Subscribe."""
        arn = request.client("sns").subscribe(
            ReturnSubscriptionArn=True, **request.only("Endpoint", "Protocol", "TopicArn")
        )["SubscriptionArn"]
        return Made(arn, {"Arn": arn})

    def delete(self, request: Request, made: Made) -> None:
        """Unsubscribe."""
        request.client("sns").unsubscribe(SubscriptionArn=made.physical_id)


def _text(value: Any) -> str:  # noqa: ANN401 - a part of a template
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


KINDS: tuple[Kind, ...] = (Rule(), Queue(), QueuePolicy(), Topic(), Subscription())
