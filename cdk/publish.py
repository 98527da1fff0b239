"""Brings the plan of a deployment into its bucket: before the deployment where the bucket exists, else after it.

It is what `lockstep plan publish --cloud aws` does, for the plan and the account of `make deploy-aws`.
"""

from dataclasses import dataclass

from cdk.account import Client
from cdk.deployment import Deployment
from lockstep.aws.s3 import S3Folder
from lockstep.plan.published import folder_of, place_in_aws, state_of, write_plan
from lockstep.protocol.errors import LockstepError
from lockstep.runtime.system import SystemClock


class NotPublishedError(Exception):
    """The plan is not in its bucket; the text says why, and what to do."""


@dataclass(frozen=True)
class Publication:
    """A plan, and the client with which it is published.

    Attributes:
        s3: Of the bucket's region.
    """

    deployment: Deployment
    s3: Client

    @property
    def address(self) -> str:
        """Where the functions find it."""
        return str(place_in_aws(self.deployment.plan.compiled, self.deployment.published.digest))

    def publish(self) -> str:
        """Write what is missing; what was done, for people.

        Raises:
            NotPublishedError: A call was refused or not answered, or somebody has put something else there.
        """
        published = self.deployment.published
        place = place_in_aws(self.deployment.plan.compiled, published.digest)
        bucket = S3Folder(self.s3, place.bucket, folder_of(published.digest))
        again = f"`lockstep plan publish --cloud aws --plan {self.deployment.settings.plan}`"
        try:
            state = state_of(bucket, published)
            names = state.wanting
            different = state.different | write_plan(
                bucket, published, names, clock=SystemClock(), done=lambda _name: None
            )
        except LockstepError as error:
            raise NotPublishedError(
                f"{self.address}: {type(error).__name__}: {error}; repeat {again}"
            ) from error
        if different:
            raise NotPublishedError(
                f"{self.address}: {len(different)} documents have other content than the plan's, so functions refuse "
                f"them; find out who wrote them, delete them, and repeat {again}"
            )
        return f"{self.address}: {len(state.same):,} documents were there, {len(names):,} written"
