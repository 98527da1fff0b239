"""The section `events` of the plan: where events go. Without it none is sent."""

from typing import Annotated, Self

from pydantic import model_validator

from lockstep.plan_fields import Region, Section, Text


class EventBusSection(Section):
    """A bus of EventBridge, in the account of the stack."""

    name: Annotated[str, Text(r"[A-Za-z0-9/_.-]{1,256}", "letters, digits and / _ . -, at most 256 in all")]
    """Its name; `default` is the one that every account has. It must exist."""
    region: Region
    """Where it is."""


class EventTopicSection(Section):
    """A topic of OCI Notifications."""

    topic_id: Annotated[str, Text(r"ocid1\.onstopic\.[A-Za-z0-9._-]{1,230}", "the OCID of a topic")]
    """Its OCID. It must exist, and have its subscriptions."""
    compartment_id: Annotated[
        str, Text(r"ocid1\.(compartment|tenancy)\.[A-Za-z0-9._-]{1,230}", "the OCID of a compartment")
    ]
    """Where it is: a policy cannot name a topic, so the function may publish to every topic there."""
    region: Region
    """Where it is."""


class Events(Section):
    """Where each cloud sends events of what its runner, or an operator, has done."""

    aws: EventBusSection | None = None
    """Where AWS sends."""
    oci: EventTopicSection | None = None
    """Where the OCI runner sends."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if not (self.aws or self.oci):
            raise ValueError("must name aws, oci or both; to send no events, leave `events` out")
        return self
