"""What checks may ask: the plan and both clouds, as one identity reaches them from one place."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lockstep.clouds import Clouds
from lockstep.doctor.probes.places import HERE
from lockstep.environment import OciExtraMissingError
from lockstep.plan import Plan
from lockstep.ports import Clock
from lockstep.stack_names import DEFAULT_STACK

if TYPE_CHECKING:
    from lockstep.aws.reads import AwsReads
    from lockstep.doctor.probes.servers import Databases
    from lockstep.oci.reads import OciReads


@dataclass(kw_only=True)
class Context:
    """What a check is given.

    Attributes:
        plan: The plan.
        clouds: Its ports, as the identity of this place opens them.
        stack: The prefix of all names in AWS.
        name: That of all names in OCI: `name` of Terraform.
        where: The place from which is asked.
    """

    plan: Plan
    clouds: Clouds
    stack: str = DEFAULT_STACK
    name: str = DEFAULT_STACK
    where: str = HERE

    @property
    def clock(self) -> Clock:
        """The time of this place."""
        return self.clouds.clock

    @cached_property
    def aws(self) -> "AwsReads":
        """Reads of AWS, in the region of the lock table unless told otherwise."""
        from lockstep.aws.reads import AwsReads  # noqa: PLC0415 - a plan may have nothing there that is asked

        return AwsReads(self.clouds.aws, self.plan.lock.region)

    @cached_property
    def oci(self) -> "OciReads":
        """Reads of OCI, in the region of the plan's store there."""
        try:
            from lockstep.oci.reads import OciReads  # noqa: PLC0415 - likewise
        except ModuleNotFoundError:
            raise OciExtraMissingError from None
        return OciReads(self.clouds.oci)

    @cached_property
    def databases(self) -> "Databases":
        """The databases of the plan, each looked at once."""
        from lockstep.doctor.probes.servers import Databases  # noqa: PLC0415 - it loads the drivers

        return Databases(self.plan.compiled.credentials, self.clouds, where=self.where)

    @property
    def refused(self) -> frozenset[str]:
        """The names of the databases that have refused a login, as far as they were looked at."""
        return self.databases.refused if "databases" in vars(self) else frozenset()
