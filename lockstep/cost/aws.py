"""What AWS charges (`lockstep.cost`)."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from fractions import Fraction
from math import ceil

from lockstep.compiled import ClientKey, FederationToOci
from lockstep.cost import assumptions as assumed
from lockstep.cost.bill import Deployed, Line
from lockstep.cost.calls import Counted, Shape
from lockstep.cost.prices import SMALLEST_BILLED
from lockstep.plan import Plan
from lockstep.plan_admins import names_in_aws
from lockstep.plan_audit import AwsAudit
from lockstep.plan_credentials import CredentialSection
from lockstep.shards import standby_minutes
from lockstep.store_kinds.aws_secrets_manager import AwsSecretsManager
from lockstep.store_kinds.oci_vault import OciVault

FUNCTIONS = ("generate", "apply_db", "update_secrets", "audit")
HOUR = timedelta(hours=1)
SECRETS_EACH = 2
DECRYPTS = ("GetSecretValue", "PutSecretValue")
"""Calls of Secrets Manager for which it asks KMS once
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html)."""
WRITES, READS = ("UpdateItem", "PutItem"), ("GetItem",)
SCANNED = 2
"""Bytes of JSON for a byte of a record."""
PUTS, GETS = ("PUT",), ("HEAD", "GET")
SIGNATURES = ("GenerateMac", "VerifyMac")
IN_OCI = ("vault", "secrets", "objectstorage", "identitydomain")

# What the stack makes, whatever the number of credentials: a test compares it with the template.
METRICS_OF_THE_WATCH = 11
METRICS_OF_LOGS = 4
ALARMS = 17
ALARMS_OF_THE_STANDBY = 2


def month(retention: timedelta) -> Fraction:
    """A time in months."""
    return Fraction(int(retention.total_seconds()), assumed.HOURS * 3600)


def rotations(interval: timedelta) -> Fraction:
    """Of a month."""
    return 1 / month(interval)


def looks(interval: timedelta) -> Fraction:
    """How often in a month a runner looks at the other's log: every hour, or at its next trigger (protocol E15)."""
    return rotations(max(interval, HOUR))


def shape_of(plan: Plan, credential: CredentialSection) -> Shape:
    """What the number of calls depends on."""
    vault = plan.store(OciVault)
    return Shape(databases=len(credential.databases), ring=vault.ring if vault else None)


def of_credential(
    plan: Plan, credential: CredentialSection, deployed: Deployed, counted: Counted
) -> Iterator[Line]:
    """What a credential adds."""
    calls = _Calls(plan, credential, counted, cold=deployed.cold)
    often = rotations(credential.interval)
    if plan.store(AwsSecretsManager):
        yield aws_line("Secrets Manager, two secrets", "secret", SECRETS_EACH)
    # Counted with sessions; with a key, or a client secret, it is read where each session would begin.
    proofs = calls.of("sts", "GetWebIdentityToken") if plan.runners.aws.secrets else 0
    yield aws_line("Secrets Manager, calls", "secret calls", calls.of("secretsmanager") + proofs)
    yield aws_line("Step Functions, transitions", "transitions", often * counted.transitions)
    yield aws_line("Lambda, requests", "lambda requests", often * len(FUNCTIONS))
    yield aws_line(
        "Lambda, time", f"lambda time {deployed.architecture}", calls.gigabyte_seconds(deployed.memory_mb)
    )
    record = counted.bytes["lock_record"]
    yield aws_line("DynamoDB, writes", "dynamodb writes", calls.of("dynamodb", *WRITES) * ceil(record / 1024))
    yield aws_line(
        "DynamoDB, consistent reads", "dynamodb reads", calls.of("dynamodb", *READS) * ceil(record / 4096)
    )
    values = calls.of("secretsmanager", *DECRYPTS) + proofs
    yield aws_line("KMS, for the values of secrets", "kms requests", values)
    yield aws_line("KMS, signatures of the audit log", "kms mac requests", calls.of("kms", *SIGNATURES))
    if _client_key(plan):
        yield aws_line("KMS, signatures for sessions in OCI", "kms rsa requests", calls.of("kms", "Sign"))
    yield from _of_audit_log(plan.audit.aws, calls, often, counted.bytes["audit_entry"])
    execution, functions = counted.events * assumed.EVENT_IN_LOG, len(FUNCTIONS) * assumed.FUNCTION_IN_LOG
    yield from written_logs("executions", often * execution, deployed)
    yield from written_logs("functions", often * functions, deployed)
    yield aws_line("X-Ray, traces", "traces", often)
    if plan.events and plan.events.aws:
        yield from _of_events(often, deployed)
    if plan.store(OciVault):
        yield aws_line(
            "Data to OCI", "aws transfer", Fraction(calls.of(*IN_OCI) * assumed.CALL_OUT) / assumed.GIGABYTE
        )


def _of_events(often: Fraction, deployed: Deployed) -> Iterator[Line]:
    """What it costs to tell others; nobody waits for it, and no rotation makes another call."""
    each = assumed.OVERHEAD_MS + assumed.EVENTS_MS + deployed.cold * assumed.start_ms(deployed.memory_mb)
    used = often * each / 1000 * Fraction(deployed.memory_mb, 1024)
    yield aws_line("EventBridge, events", "events", often * assumed.EVENTS)
    yield aws_line("Lambda, calls of announce", "lambda requests", often)
    yield aws_line("Lambda, time of announce", f"lambda time {deployed.architecture}", used)
    yield aws_line("X-Ray, traces of announce", "traces", often)
    yield from written_logs("announce", often * assumed.FUNCTION_IN_LOG, deployed)


class _Calls:
    """The calls of a credential's rotations in a month, made by AWS, and by the standby that finds nothing to do."""

    def __init__(
        self, plan: Plan, credential: CredentialSection, counted: Counted, *, cold: Fraction
    ) -> None:
        self._shape, self._counted, self._cold = shape_of(plan, credential), counted, cold
        self._often = rotations(credential.interval)
        # The flows of AWS, and how often each of them is in a month.
        self._by_aws: Mapping[str, Fraction] = {
            "aws rotation": self._often,
            "aws cold start": self._often * cold,
            **({"aws look": looks(credential.interval)} if plan.runners.oci else {}),
        }
        self._by_oci: Mapping[str, Fraction] = (
            {"oci look": looks(credential.interval)} if plan.runners.oci else {}
        )

    def of(self, service: str, *operations: str) -> Fraction:
        """The calls of a service, by either runner; of some operations."""
        if service in IN_OCI:
            services, flows = (service, *operations), self._by_aws
            return sum((self._number(flows, one) for one in services), Fraction())
        return self._number({**self._by_aws, **self._by_oci}, service, *operations)

    def gigabyte_seconds(self, memory_mb: int) -> Fraction:
        """What the functions in AWS use."""
        waiting = sum(
            often * count * assumed.CALL_MS[call.service]
            for flow, often in self._by_aws.items()
            for call, count in self._counted.calls(flow, self._shape)
            if call.step in FUNCTIONS
        )
        each = len(FUNCTIONS) * (assumed.OVERHEAD_MS + self._cold * assumed.start_ms(memory_mb))
        each += assumed.LOGINS * assumed.LOGIN_MS
        return (waiting + self._often * each) / 1000 * Fraction(memory_mb, 1024)

    def _number(self, flows: Mapping[str, Fraction], service: str, *operations: str) -> Fraction:
        return sum(
            (
                often * self._counted.number(flow, self._shape, service, *operations)
                for flow, often in flows.items()
            ),
            Fraction(),
        )


def scans_of_the_standby(plan: Plan) -> int:
    """How often the schedules call the OCI function in a month: each call reads the lock table once (protocol R5)."""
    return len(standby_minutes(plan.shards)) * assumed.HOURS if plan.runners.oci else 0


def pages_of_a_scan(plan: Plan, counted: Counted) -> int:
    """Calls of a scan of the lock table, each of which gives a megabyte."""
    return ceil(len(plan.credential_sections) * counted.bytes["lock_record"] / 1024**2)


def scan_units(plan: Plan, counted: Counted) -> int:
    """Read request units of a scan of the lock table."""
    return ceil(len(plan.credential_sections) * counted.bytes["lock_record"] / 4096)


def _of_audit_log(audit: AwsAudit, calls: _Calls, often: Fraction, entry: int) -> Iterator[Line]:
    kind = audit.storage_class
    kept = often * month(audit.retention) * max(entry, SMALLEST_BILLED[kind])
    yield aws_line("S3, entries written", f"s3 put {kind}", calls.of("s3", *PUTS))
    yield aws_line("S3, entries looked at", f"s3 get {kind}", calls.of("s3", *GETS))
    yield aws_line(
        "S3, entries kept, from the day on which the first may go",
        f"s3 storage {kind}",
        kept / assumed.GIGABYTE,
    )


def written_logs(what: str, written: Fraction, deployed: Deployed) -> Iterator[Line]:
    """What so many bytes of logs in a month cost to write and to keep."""
    gigabytes = written / assumed.GIGABYTE
    kept = gigabytes * assumed.COMPRESSED * month(timedelta(days=deployed.log_retention_days))
    yield aws_line(f"CloudWatch, logs of {what} written", "logs", gigabytes)
    yield aws_line(f"CloudWatch, logs of {what} kept", "log storage", kept)


def of_deployment(plan: Plan, deployed: Deployed, counted: Counted) -> Iterator[Line]:
    """What is there whatever the number of credentials."""
    standby = plan.runners.oci is not None
    # Of their age.
    of_keys = int(any(plan.runners.keys))
    yield aws_line(
        "Secrets Manager, logins of rotator admins and proofs for OCI",
        "secret",
        len(names_in_aws(plan)) + len(plan.runners.aws.secrets),
    )
    yield aws_line("KMS, keys that are made", "kms key", _keys(plan, deployed))
    often = rotations(min(c.interval for c in plan.credential_sections))
    starts = min(often, Fraction(assumed.HOURS * 60, assumed.KEY_CACHED_MINUTES))
    yield aws_line("KMS, for the lock table", "kms requests", starts * assumed.PRINCIPALS + assumed.WATCHES)
    yield aws_line("CloudWatch, metrics", "metrics", METRICS_OF_THE_WATCH + METRICS_OF_LOGS + of_keys)
    yield aws_line(
        "CloudWatch, alarms", "alarms", ALARMS + of_keys + (ALARMS_OF_THE_STANDBY if standby else 0)
    )
    if deployed.dashboard:
        yield aws_line("CloudWatch, dashboard", "dashboard", 1)
    yield from _of_watch(plan, deployed, counted)
    scans = scans_of_the_standby(plan)
    yield aws_line("DynamoDB, scans of the standby", "dynamodb reads", scans * scan_units(plan, counted))
    sent = scans * len(plan.credential_sections) * counted.bytes["lock_record"] * SCANNED
    yield aws_line("Data to OCI, scans of the standby", "aws transfer", Fraction(sent) / assumed.GIGABYTE)
    stored = Fraction(len(plan.credential_sections) * counted.bytes["lock_record"], assumed.GIGABYTE)
    yield aws_line("DynamoDB, storage", "dynamodb storage", stored)
    yield aws_line("DynamoDB, point-in-time recovery", "dynamodb backup", stored)


def _keys(plan: Plan, deployed: Deployed) -> int:
    # A MAC key that the plan names by id or ARN is there already.
    makes_mac_key = plan.audit.aws.mac_key.startswith("alias/") and not deployed.mac_key_adopted
    return (
        int(makes_mac_key) + int(_makes_client_key(plan, deployed)) + int(not deployed.encryption_key_adopted)
    )


def _makes_client_key(plan: Plan, deployed: Deployed) -> bool:
    key = _client_key(plan)
    return key is not None and key.startswith("alias/") and not deployed.client_key_adopted


def _client_key(plan: Plan) -> str | None:
    """The key that proves the domain's application."""
    to_oci = plan.compiled.to_oci
    client = to_oci.client if isinstance(to_oci, FederationToOci) else None
    return client.kms_key if isinstance(client, ClientKey) else None


def _of_watch(plan: Plan, deployed: Deployed, counted: Counted) -> Iterator[Line]:
    """The watch: its process is called so often that it stays."""
    seconds = Fraction(
        assumed.OVERHEAD_MS + pages_of_a_scan(plan, counted) * assumed.CALL_MS["dynamodb"], 1000
    )
    seconds += assumed.scan_seconds(len(plan.credential_sections), deployed.memory_mb)
    yield aws_line("Lambda, calls of the watch", "lambda requests", assumed.WATCHES)
    yield aws_line(
        "Lambda, time of the watch",
        f"lambda time {deployed.architecture}",
        assumed.WATCHES * seconds * Fraction(deployed.memory_mb, 1024),
    )
    yield aws_line(
        "DynamoDB, scans of the watch", "dynamodb reads", assumed.WATCHES * scan_units(plan, counted)
    )
    yield from written_logs("the watch", Fraction(assumed.WATCHES * 2 * assumed.FUNCTION_IN_LOG), deployed)
    yield aws_line("X-Ray, traces of the watch", "traces", assumed.WATCHES)


def aws_line(item: str, price: str, quantity: Fraction | int) -> Line:
    """An item that AWS charges."""
    return Line(cloud="aws", item=item, price=price, quantity=Fraction(quantity))
