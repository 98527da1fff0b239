"""The store kind `aws-secrets-manager`."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Literal

from lockstep.compiled import AwsStore, fields_of
from lockstep.durations import format_duration
from lockstep.plan_fields import Name, Region
from lockstep.store_kinds.base import Demand, StoreKind

SHORTEST_INTERVAL = timedelta(minutes=15)
"""96 versions a day: a secret keeps about 100, and none younger than 24 hours is removed
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""


class AwsSecretsManager(StoreKind):
    """The AWS store."""

    kind: Literal["aws-secrets-manager"]
    """AWS Secrets Manager."""
    name: Name = "aws"
    """Its name in commands and messages."""
    region: Region
    """Where the secrets are."""

    def compile(self) -> AwsStore:
        """What a runner needs of it."""
        return AwsStore(**fields_of(AwsStore, self))

    @property
    def identity(self) -> Mapping[str, object]:
        """Its region. The account is the one that the runners' identities belong to."""
        return {"kind": self.kind, "region": self.region}

    def problems(self, path: str, demand: Demand) -> Iterator[str]:
        """Intervals that exhaust the quota of versions."""
        for credential_id, interval in demand.intervals.items():
            if interval < SHORTEST_INTERVAL:
                yield (
                    f"{path}: an interval of {format_duration(interval)} ({credential_id}) exhausts Secrets Manager's "
                    "quota of versions within a day; use an interval of 15m or more"
                )
