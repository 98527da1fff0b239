"""A bill: lines of a price and a quantity, each of one credential or of the deployment."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
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
        client_key_adopted: Likewise the one that signs for the application in OCI.
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
    client_key_adopted: bool = False
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
                given |= {
                    f"{key}_adopted": bool(adopt.get(key))
                    for key in ("encryption_key", "mac_key", "client_key")
                }
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
        return sum((count * total(lines) for lines, count in self._kinds), Fraction()) / len(self.credentials)

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
        quantities: dict[tuple[Cloud, str, str], Fraction] = {}
        for lines, count in self._kinds:
            for line in lines:
                item = (line.cloud, line.item, line.price)
                quantities[item] = quantities.get(item, Fraction()) + count * line.quantity
        return [
            Line(cloud=cloud, item=item, price=price, quantity=quantity / len(self.credentials))
            for (cloud, item, price), quantity in quantities.items()
        ]

    @property
    def _kinds(self) -> Collection[tuple[Sequence[Line], int]]:
        """The lines of credentials, and how many share them."""
        lines = {id(lines): lines for lines in self.credentials.values()}
        counts = Counter(map(id, self.credentials.values()))
        return [(lines[key], count) for key, count in counts.items()]

    @property
    def prices(self) -> list[str]:
        """The names of the prices, each once, in the order of the lines."""
        of_kinds = (line for lines, _ in self._kinds for line in lines)
        return list(dict.fromkeys(line.price for line in (*of_kinds, *self.deployment)))

    @property
    def unconfirmed(self) -> list[str]:
        """The names of the prices that were not found in print."""
        return [name for name in self.prices if not PRICES[name].confirmed]


def total(lines: Iterable[Line]) -> Fraction:
    """What lines cost together."""
    return sum((line.usd for line in lines), Fraction())
