"""Where a host of the functions has its plan: what the environment variable LOCKSTEP_PLAN says.

    lockstep.yaml                                   a plan file, on a machine that has the parser
    build/plans/<digest>                            a folder that `lockstep plan compile --out` has written
    s3://BUCKET/plans/<digest>                      in Amazon S3
    oci://NAMESPACE/BUCKET/plans/<digest>           in OCI Object Storage

Behind an address in a cloud `?region=…` names the region of the bucket; without it, it is the function's own.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from lockstep.compiled import CompiledPlan
from lockstep.errors import InvalidPlanError
from lockstep.stack_names import plan_bucket_name

PLANS = "plans"
"""The folder of a bucket that has the folder of each plan."""
INDEX = "index.json"
CA_FOLDER = Path("plan")
"""Where a function has the CA files of its plan, relative to its working directory."""

_DIGEST = "(?P<digest>[0-9a-f]{64})"
_REGION = r"(\?region=(?P<region>[a-z0-9-]{1,40}))?"
_S3 = re.compile(rf"s3://(?P<bucket>[a-z0-9.-]{{3,63}})/{PLANS}/{_DIGEST}{_REGION}")
_OCI = re.compile(
    rf"oci://(?P<namespace>[A-Za-z0-9_-]{{1,100}})/(?P<bucket>[A-Za-z0-9_.-]{{1,256}})/{PLANS}/{_DIGEST}{_REGION}"
)


@dataclass(frozen=True, slots=True)
class PlanInFile:
    """A plan file."""

    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInFolder:
    """A published plan on this machine; CA files are below its folder.

    Attributes:
        folder: That of its documents.
    """

    folder: Path
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInS3:
    """A published plan in S3.

    Attributes:
        region: None: the function's own.
    """

    bucket: str
    digest: str
    region: str | None = None

    def __str__(self) -> str:
        """Its address."""
        return f"s3://{self.bucket}/{PLANS}/{self.digest}{_query(self.region)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInObjectStorage:
    """A published plan in OCI Object Storage.

    Attributes:
        region: None: the function's own.
    """

    namespace: str
    bucket: str
    digest: str
    region: str | None = None

    def __str__(self) -> str:
        """Its address."""
        return f"oci://{self.namespace}/{self.bucket}/{PLANS}/{self.digest}{_query(self.region)}"


Place = PlanInFile | PlanInFolder | PlanInS3 | PlanInObjectStorage


def place_of(said: str) -> Place:
    """The place that a value of LOCKSTEP_PLAN means.

    Raises:
        InvalidPlanError: It begins as an address, and is none.
    """
    if found := _S3.fullmatch(said):
        return PlanInS3(**found.groupdict())
    if found := _OCI.fullmatch(said):
        return PlanInObjectStorage(**found.groupdict())
    if said.startswith(("s3:", "oci:")):
        raise InvalidPlanError(code="not-an-address-of-a-plan")
    path = Path(said)
    if re.fullmatch(_DIGEST, path.name) and path.is_dir():
        return PlanInFolder(folder=path, digest=path.name)
    return PlanInFile(path)


def place_in_aws(plan: CompiledPlan, digest: str) -> PlanInS3:
    """Where the functions in AWS find a plan."""
    stream = plan.aws_stream
    return PlanInS3(bucket=plan_bucket_name(stream.bucket), digest=digest, region=stream.region)


def place_in_oci(plan: CompiledPlan, digest: str) -> PlanInObjectStorage:
    """Where the function in OCI finds a plan.

    Raises:
        InvalidPlanError: OCI runs nothing.
    """
    stream = plan.oci_stream
    if stream is None:
        raise InvalidPlanError
    return PlanInObjectStorage(
        namespace=stream.namespace,
        bucket=plan_bucket_name(stream.bucket),
        digest=digest,
        region=stream.region,
    )


def folder_of(digest: str) -> str:
    """The folder of a plan in a bucket."""
    return f"{PLANS}/{digest}"


def credential_name(key: str) -> str:
    """The document of a credential, in the folder of its plan.

    Args:
        key: Its `lockstep.shards.run_key`.
    """
    return f"credentials/{key}.json"


def shard_name(name: str) -> str:
    """The document of a shard.

    Args:
        name: Its `lockstep.shards.Shard.name`.
    """
    return f"shards/{name}.json"


def _query(region: str | None) -> str:
    return f"?region={region}" if region else ""
