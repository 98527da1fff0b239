"""What OCI charges (`lockstep.cost`): for its store, and for the standby, which is called and finds nothing to do."""

from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction

from lockstep.cost import assumptions as assumed
from lockstep.cost.aws import IN_OCI, looks, month, pages_of_a_scan, rotations, scans_of_the_standby, shape_of
from lockstep.cost.bill import Deployed, Line
from lockstep.cost.calls import Counted
from lockstep.plan import Plan
from lockstep.plan_admins import names_in_oci
from lockstep.plan_credentials import CredentialSection
from lockstep.store_kinds.oci_vault import OciVault

SECRETS_EACH = 2
KEYS = 2
"""That Terraform makes: of the secrets, and of the audit log."""
ARCHIVE_KEEPS = timedelta(days=90)
"""The least that an object of the Archive tier is charged for."""


def of_credential(
    plan: Plan, credential: CredentialSection, deployed: Deployed, counted: Counted
) -> Iterator[Line]:
    """What a credential adds; nothing where no store is in OCI."""
    vault = plan.store(OciVault)
    if vault is None:
        return
    shape, often, look = (
        shape_of(plan, credential),
        rotations(credential.interval),
        looks(credential.interval),
    )

    def number(*services: str) -> Fraction:
        """Calls of services in OCI, by both runners."""
        flows = {"aws rotation": often, "aws cold start": often * deployed.cold}
        if plan.runners.oci:
            flows |= {"aws look": look, "oci look": look}
        return sum(
            (times * counted.number(flow, shape, one) for flow, times in flows.items() for one in services),
            Fraction(),
        )

    yield _line("Vault, secrets of the rings", "oci secret", SECRETS_EACH * vault.slots_of_readers)
    yield _line("Vault, calls", "oci secret calls", number("vault", "secrets"))
    if not plan.runners.oci:
        return
    seconds = _waiting(counted, "oci look", plan, credential) * look
    yield _line("Functions, time", "oci function time", seconds * Fraction(deployed.memory_in_mbs, 1024))
    # The entries of its own stream: what it sees of the other one, once an hour.
    entries = look * month(max(ARCHIVE_KEEPS, plan.audit.aws.retention)) * counted.bytes["audit_entry"]
    yield _line("Object Storage, entries kept", "oci archive", entries / assumed.GIGABYTE)
    yield _line("Object Storage, calls", "oci object calls", number("objectstorage"))
    to_aws = sum(
        look * count * assumed.CALL_OUT
        for call, count in counted.calls("oci look", shape)
        if call.service not in IN_OCI
    )
    yield _line("Data to AWS", "oci transfer", Fraction(to_aws) / assumed.GIGABYTE)


def of_deployment(plan: Plan, deployed: Deployed, counted: Counted) -> Iterator[Line]:
    """What is there whatever the number of credentials; nothing where no store is in OCI."""
    vault = plan.store(OciVault)
    if vault is None:
        return
    by_hand = len(names_in_oci(plan)) + 2 if plan.runners.oci else 0
    yield _line("Vault, logins of rotator admins and keys", "oci secret", by_hand)
    keys = KEYS if deployed.key_protection == "HSM" else 0
    yield _line("Vault, keys in an HSM", "oci key", keys if plan.audit.oci else min(keys, 1))
    if not plan.runners.oci:
        return
    calls = scans_of_the_standby(plan)
    yield _line("Resource Scheduler", "oci schedules", calls)
    yield _line("Functions, calls", "oci function calls", calls)
    yield _line("Object Storage, the index of the plan read", "oci object calls", calls)
    start = Fraction(assumed.OVERHEAD_MS + deployed.cold * assumed.start_ms(deployed.memory_in_mbs), 1000)
    start += _waiting(counted, "oci cold start", plan, plan.credential_sections[0])
    # The index of the plan, and the pages of the scan.
    waits = (assumed.CALL_MS["objectstorage"], pages_of_a_scan(plan, counted) * assumed.CALL_MS["dynamodb"])
    start += Fraction(sum(waits), 1000)
    start += assumed.scan_seconds(len(plan.credential_sections), deployed.memory_in_mbs)
    yield _line(
        "Functions, looks", "oci function time", calls * start * Fraction(deployed.memory_in_mbs, 1024)
    )
    kept = calls * assumed.FUNCTION_IN_LOG * month(timedelta(days=deployed.oci_log_retention_days))
    yield _line("Logging, log of the function kept", "oci log storage", kept / assumed.GIGABYTE)


def _waiting(counted: Counted, flow: str, plan: Plan, credential: CredentialSection) -> Fraction:
    calls = counted.calls(flow, shape_of(plan, credential))
    return Fraction(sum(count * assumed.CALL_MS[call.service] for call, count in calls), 1000)


def _line(item: str, price: str, quantity: Fraction | int) -> Line:
    return Line(cloud="oci", item=item, price=price, quantity=Fraction(quantity))
