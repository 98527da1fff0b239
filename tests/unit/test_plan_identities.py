"""How each runner proves itself to the other cloud, as a plan says it."""

import pytest

from lockstep.plan.compiled import ApiKeys, ClientKey, CompiledPlan, FederationToAws, FederationToOci
from lockstep.protocol.strict_json import read, write
from sandbox.plans import TO_AWS, TO_OCI
from tests.unit.plan_case import BOTH, parse, problems_of, with_value


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("runners.oci", {}, "runners.oci: give federation, or instead aws_key_secret"),
        ("runners.aws", {"oci_reader_key_secret": "k"}, "runners.aws.oci_reader_key_secret: needs oci_key"),
        ("runners.aws.federation", TO_OCI, "runners.aws: give federation or oci_key_secret, not both"),
        (
            "runners.aws",
            {"federation": {**TO_OCI, "client": {}}},
            "runners.aws.federation.client: give kms_key",
        ),
        (
            "runners.aws",
            {"federation": {**TO_OCI, "client": {"kms_key": "alias/k"}}},
            "runners.aws.federation.client: give kms_key and certificate",
        ),
        *(
            (
                "runners.aws",
                {"federation": {**TO_OCI, "domain_url": url}},
                "runners.aws.federation.domain_url",
            )
            for url in (
                "http://d.example.com",
                "https://d.example.com/",
                "https://u:p@d.example.com",
                "https://d.example.com:8443",
            )
        ),
        *(
            ("runners.oci", {"federation": {**TO_AWS, "issuer": url}}, "runners.oci.federation.issuer")
            for url in ("http://i.example.com", "https://i.example.com:443/o", "https://i.example.com/o/?a=b")
        ),
        (
            "runners.oci",
            {"federation": {**TO_AWS, "role_arn": "arn:aws:iam::1:user/u"}},
            "runners.oci.federation.role_arn: must be the ARN of a role",
        ),
    ],
)
def test_a_mistake_in_an_identity_is_reported(path: str, value: object, expected: str) -> None:
    problems = problems_of(with_value(path, value, of=BOTH))
    assert any(problem.startswith(expected) for problem in problems), problems


def test_a_plan_without_a_long_lived_key_is_valid() -> None:
    plan = parse(
        with_value("runners", {"aws": {"federation": TO_OCI}, "oci": {"federation": TO_AWS}}, of=BOTH)
    )
    to_oci, to_aws = plan.compiled.to_oci, plan.compiled.to_aws
    assert isinstance(to_oci, FederationToOci)
    assert to_oci.client == ClientKey(kms_key="alias/lockstep-oci-client", certificate="lockstep")
    assert (to_oci.token, to_oci.audience, to_oci.resource_type) == ("rpst", "lockstep", "lockstep")
    assert isinstance(to_aws, FederationToAws)
    assert to_aws.key.version == TO_AWS["key"]["version"]
    assert (to_aws.audience, to_aws.subject) == ("sts.amazonaws.com", "lockstep-oci-runner")
    assert list(plan.runners.keys) == []
    assert read(CompiledPlan, write(plan.compiled)) == plan.compiled


def test_the_address_of_a_domain_may_be_as_oci_shows_it() -> None:
    url = "https://idcs-1.identity.oraclecloud.com:443"
    plan = parse(with_value("runners.aws", {"federation": {**TO_OCI, "domain_url": url}}, of=BOTH))
    to_oci = plan.compiled.to_oci
    assert isinstance(to_oci, FederationToOci)
    assert to_oci.domain_url == url


def test_functions_that_only_read_may_have_a_key_of_their_own() -> None:
    assert parse(BOTH).compiled.to_oci == ApiKeys(writer="lockstep/oci-key", reader="lockstep/oci-key")
    plan = parse(with_value("runners.aws.oci_reader_key_secret", "lockstep/oci-reader", of=BOTH))
    assert plan.compiled.to_oci == ApiKeys(writer="lockstep/oci-key", reader="lockstep/oci-reader")
    secret = {**TO_OCI, "client": {"secret": "lockstep/client"}}
    plan = parse(with_value("runners.aws", {"federation": secret}, of=BOTH))
    assert dict(plan.runners.keys)["runners.aws.federation.client.secret"] == "lockstep/client"
