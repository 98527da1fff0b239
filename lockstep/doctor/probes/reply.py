"""What a function answers to `lockstep doctor --in-cloud`."""

from collections.abc import Mapping

from lockstep.doctor.findings import Finding
from lockstep.strict_json import Instant, Message


class Reply(Message, kw_only=True):
    """What a function has found, without a secret.

    Attributes:
        findings: From where it runs.
        refused: The names of the databases that have refused a login: no other place shows them one.
        plans: The digest of each credential, by the plan that it was deployed with.
        at: The time by its clock.
    """

    findings: tuple[Finding, ...]
    refused: tuple[str, ...] = ()
    plans: Mapping[str, str]
    at: Instant
