"""CloudFormation as on AWS. moto's own creates what it wants: it takes over names, rolls nothing back, keeps nothing.

moto parses templates and answers the API (stacks, change sets, events). What a stack does is here:

- `stacks`: which operation a stack may begin in which state.
- `template`: what is refused before anything is touched.
- `engine`: creation, update, deletion, rollback; DeletionPolicy and UpdateReplacePolicy.
- `registry`: the handlers of all types. A handler calls the service's API, as those of AWS do.
"""

import json
from collections.abc import Callable

from moto.cloudtrail.responses import CloudTrailResponse
from moto.iam.access_control import PermissionResult

from sandbox.aws.cloudformation import stacks
from sandbox.aws.cloudformation.registry import NOT_EMULATED
from sandbox.aws.executions import Client
from sandbox.aws.patching import Foreign, Patches

__all__ = ["NOT_EMULATED", "apply"]


def apply(patches: Patches, client: Callable[[str], Client]) -> None:
    """Let CloudFormation deploy as AWS does.

    Args:
        patches: Undone when the sandbox stops.
        client: Returns a client of a service of the sandbox.
    """
    stacks.apply(patches, client)
    leave_bucket_policies_to_the_guard(patches)
    tell_no_events_of_the_trail(patches)


def leave_bucket_policies_to_the_guard(patches: Patches) -> None:
    """Bucket policies are evaluated with their conditions. moto ignores them, so a policy against HTTP refuses all."""

    def get_permission(_bucket: Foreign, _action: str, _resource: str) -> object:
        return PermissionResult.NEUTRAL

    patches.replace("moto.s3.models:FakeBucket.get_permission", get_permission)


def tell_no_events_of_the_trail(patches: Patches) -> None:
    """CloudTrail has no events yet. The CDK CLI asks it why a deployment failed, and moto does not know the call.

    An event can be looked up some minutes after its call
    (https://docs.aws.amazon.com/awscloudtrail/latest/userguide/how-cloudtrail-works.html).
    """

    def lookup_events(_response: Foreign) -> str:
        return json.dumps({"Events": []})

    patches.define(CloudTrailResponse, "lookup_events", lookup_events)
