"""A bill: lines of a price and a quantity, each of one credential or of the deployment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from lockstep.cost.assumptions import COLD, Protection
from lockstep.cost.prices import PRICES, Price

Cloud = Literal["aws", "oci"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """How the plan is deployed, as far as it matters: settings of `cdk.json` and of Terraform, with their defaults.

    Attributes:
        memory_mb: Of each Lambda function.
        architecture: Of each Lambda function.
        log_retention_days: Of the logs in AWS.
        dashboard: Whether one is made.
        encryption_key_adopted: Whether the key that encrypts is there anyway.
        mac_key_adopted: Likewise the one that signs the audit log.
        memory_in_mbs: Of the OCI function.
        oci_log_retention_days: Of its log.
        key_protection: Of the keys in OCI.
        cold: The share of calls for which a function has to start.
    """

    memory_mb: int = 512
    architecture: Literal["arm64", "x86_64"] = "arm64"
    log_retention_days: int = 400
    dashboard: bool = True
    encryption_key_adopted: bool = False
    mac_key_adopted: bool = False
    memory_in_mbs: int = 512
    oci_log_retention_days: int = 90
    key_protection: Protection = "HSM"
    cold: Fraction = COLD

    @classmethod
    def of_settings(cls, cdk_json: object) -> Self:
        """The settings of a `cdk.json`; one that is not there has its default.

        Raises:
            ValueError: It has no settings, or one has another type.
        """
        context = cdk_json.get("context") if isinstance(cdk_json, dict) else None
        if not isinstance(context, dict):
            raise ValueError("it has no `context`")  # noqa: TRY004 - of a file, not of an argument
        given = {name: context[name] for name in _IN_CDK_JSON if name in context}
        match context.get("adopt", {}):
            case dict() as adopt:
                given |= {f"{key}_adopted": bool(adopt.get(key)) for key in ("encryption_key", "mac_key")}
            case other:
                raise ValueError(f"adopt: {other!r} is no object")
        try:
            return TypeAdapter(cls).validate_python(given)
        except ValidationError as error:
            wrong = (f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors(include_url=False))
            raise ValueError("; ".join(wrong)) from None


_IN_CDK_JSON = ("memory_mb", "architecture", "log_retention_days", "dashboard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An item of a bill.

    Attributes:
        cloud: Who charges it.
        item: What it is, in words.
        price: Its name in the price table.
        quantity: Of the price's unit, in a month.
    """

    cloud: Cloud
    item: str
    price: str
    quantity: Fraction

    @property
    def rate(self) -> Price:
        """Its price."""
        return PRICES[self.price]

    @property
    def usd(self) -> Fraction:
        """What it costs in a month."""
        return self.rate.cost(self.quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a plan costs in a month.

    Attributes:
        credentials: The lines of each credential, by its id.
        deployment: What does not depend on the number of credentials.
    """

    credentials: dict[str, Sequence[Line]] = field(default_factory=dict)
    deployment: Sequence[Line] = ()

    @property
    def per_credential(self) -> Fraction:
        """The mean of the credentials."""
        return sum((total(lines) for lines in self.credentials.values()), Fraction()) / len(self.credentials)

    @property
    def usd(self) -> Fraction:
        """All together."""
        return self.per_credential * len(self.credentials) + total(self.deployment)

    @property
    def lines(self) -> list[Line]:
        """Every line."""
        return [*(line for lines in self.credentials.values() for line in lines), *self.deployment]

    @property
    def mean(self) -> list[Line]:
        """The lines of a mean credential."""
        alike: dict[tuple[Cloud, str], list[Line]] = {}
        for lines in self.credentials.values():
            for line in lines:
                alike.setdefault((line.cloud, line.item), []).append(line)
        return [
            Line(
                cloud=cloud,
                item=item,
                price=lines[0].price,
                quantity=sum((line.quantity for line in lines), Fraction()) / len(self.credentials),
            )
            for (cloud, item), lines in alike.items()
        ]

    @property
    def prices(self) -> list[str]:
        """The names of the prices, each once, in the order of the lines."""
        return list(dict.fromkeys(line.price for line in self.lines))

    @property
    def unconfirmed(self) -> list[str]:
        """The names of the prices that were not found in print."""
        return [name for name in self.prices if not PRICES[name].confirmed]


def total(lines: Iterable[Line]) -> Fraction:
    """What lines cost together."""
    return sum((line.usd for line in lines), Fraction())
