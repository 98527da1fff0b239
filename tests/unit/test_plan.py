"""The plan: what one that loads says, and its JSON Schema, which is complete and never stricter."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

from lockstep.cli.app import app
from lockstep.plan.compiled import ApiKeys, ClientKey, CompiledPlan, FederationToAws, FederationToOci
from lockstep.plan.fields import format_duration, parse_duration
from lockstep.plan.file import PlanProblemsError, parse_plan, plan_schema, schema_text
from lockstep.protocol.model import AdminCredential, AdminIam, AdminSecret, Tls
from lockstep.protocol.strict_json import read, write
from sandbox.plans import TO_AWS, TO_OCI
from tests.fuzz.harness import inputs, mutated, spelled
from tests.unit.test_plan_mistakes import (
    ARN,
    BOTH,
    BY_TOKEN,
    EVERY,
    FEDERATED,
    ROTATED,
    VALID,
    Document,
    edited,
    parse,
)


def test_a_valid_plan_gets_defaults() -> None:
    plan = parse(VALID)
    credential = plan.credential("multi-cloud/app_user")
    assert credential
    assert credential.schedule.interval == timedelta(minutes=20)
    assert credential.schedule.overlap == timedelta(minutes=16)
    assert credential.schedule.tolerance == timedelta(minutes=2)
    assert credential.usernames == ("app",)
    assert [*write(credential.secret_names).values()] == [
        "multi-cloud/app_user",
        "multi-cloud/app_user.connection",
    ]
    assert credential.primary.host == "shop.example.com"
    assert credential.password_policy.length == 32
    assert plan.credential("multi-cloud/other") is None
    alternating = parse(edited(VALID, {"credentials.0.strategy": "alternating_users"})).credentials[0]
    assert (alternating.usernames, alternating.owner) == (("app_a", "app_b"), "app_owner")
    # CA files are relative to the plan.
    for server in (plan.databases[0], credential.servers[0]):
        assert server.tls
        assert server.tls.ca_file == Path("/etc/lockstep/ca.pem")


def test_a_verify_host_is_reached_as_its_database() -> None:
    hosts = {"databases.0.verify_hosts": ["r1", "r2:3307"], "databases.1.verify_hosts": ["r3"]}
    shop, stock = parse(edited(VALID, hosts)).databases
    assert [end.name for end in shop.verify_hosts] == ["r1:3306", "r2:3307"]
    assert {end.tls for end in shop.verify_hosts} == {shop.tls}
    assert shop.tls == Tls(ca_file=Path("/etc/lockstep/ca.pem"))
    assert stock.verify_hosts[0].tls is None


@given(st.integers(0, 3_000_000_000))
def test_a_written_duration_is_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration
    assert [parse_duration(text).total_seconds() for text in ("90s", "20 m", "1h 30m")] == [90, 1200, 5400]


def test_the_default_overlap_ends_before_the_next_trigger() -> None:
    for interval in ("15m", "20m", "30m", "1h", "8h", "1d", "3d"):
        schedule = parse(edited(VALID, {"credentials.0.interval": interval})).credentials[0].schedule
        assert schedule.overlap + schedule.tolerance <= schedule.interval
        assert schedule.overlap >= schedule.interval / 2


# How the rotation user of a database logs in


def test_the_rotation_user_has_a_secret_a_token_or_a_credential() -> None:
    secret = edited(BOTH, {"databases.0.admin_secret": ARN, "databases.0.oci_admin_secret": "dba.rotator"})
    assert parse(secret).databases[0].admin == AdminSecret(aws=ARN, oci="dba.rotator")
    one_name = parse(edited(BOTH, {"databases.0.admin_secret": "a"}))
    assert one_name.databases[0].admin == AdminSecret(aws="a", oci="a")
    for both in ({}, {"stores.1": BOTH["stores"][1], **{k: BOTH[k] for k in ("runners", "audit")}}):
        admin = parse(edited(BY_TOKEN, both)).databases[0].admin
        assert admin == AdminIam(username="lockstep_rotator", region="eu-west-1")
    itself, _, other_name = parse(ROTATED).databases
    assert itself.admin == other_name.admin == AdminCredential(credential="lockstep/rotator")


# Identities of the runners


def test_a_plan_without_a_long_lived_key_is_valid() -> None:
    plan = parse(FEDERATED)
    to_oci, to_aws = plan.compiled.to_oci, plan.compiled.to_aws
    assert isinstance(to_oci, FederationToOci)
    assert to_oci.client == ClientKey(kms_key="alias/lockstep-oci-client", certificate="lockstep")
    assert (to_oci.token, to_oci.audience, to_oci.resource_type) == ("rpst", "lockstep", "lockstep")
    assert isinstance(to_aws, FederationToAws)
    assert to_aws.key.version == TO_AWS["key"]["version"]
    assert (to_aws.audience, to_aws.subject) == ("sts.amazonaws.com", "lockstep-oci-runner")
    assert plan.runners.secrets == {}
    assert read(CompiledPlan, write(plan.compiled)) == plan.compiled


def test_functions_that_only_read_may_have_a_key_of_their_own() -> None:
    assert parse(BOTH).compiled.to_oci == ApiKeys(writer="lockstep/oci-key", reader="lockstep/oci-key")
    plan = parse(edited(BOTH, {"runners.aws.oci_reader_key_secret": "lockstep/oci-reader"}))
    assert plan.compiled.to_oci == ApiKeys(writer="lockstep/oci-key", reader="lockstep/oci-reader")
    secret = {**TO_OCI, "kms_key": None, "certificate": None, "client_secret": "lockstep/client"}
    plan = parse(edited(BOTH, {"runners.aws": {"federation": secret}}))
    assert plan.runners.secrets["aws.federation.client_secret"] == "lockstep/client"


# The schema

ROOT = Path(__file__).parents[2]
SCHEMA = plan_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def yaml(text: str) -> Any:  # noqa: ANN401 - a document
    return YAML(typ="safe", pure=True).load(text)


def test_the_command_prints_it_and_every_plan_of_the_repository_is_valid() -> None:
    assert CliRunner().invoke(app, ["plan", "schema"]).stdout == schema_text(SCHEMA)
    for file in [ROOT / "lockstep.yaml", *(ROOT / "tests/infrastructure/plan").glob("*.yaml")]:
        VALIDATOR.validate(yaml(file.read_text()))


def test_every_section_and_every_key_is_described() -> None:
    found = {path: part for path, part in SCHEMA["$defs"].items() if part.get("type") == "object"}
    assert len(found) >= 15
    for path, section in {**found, "": SCHEMA}.items():
        assert section["additionalProperties"] is False, path
        assert section["description"], path
        assert "Attributes:" not in section["description"], path
        for key, value in section["properties"].items():
            assert value.get("description", "").endswith("."), f"{path}: {key}"


SHAPE = re.compile(
    r"must be(?! longer| different| at most| the name of a secret)|unknown key|this key|too (few|many)|at most"
    r"|beginning|write a duration|a plan holds|2 is newer"
)
"""What the plan says of a mistake that a schema can see."""


@pytest.mark.parametrize(("of", "section", "key", "wrong", "told", "right"), EVERY)
def test_it_refuses_what_a_schema_can_say_and_nothing_else(
    of: Document, section: str, key: str, wrong: object, told: str, right: object
) -> None:
    path = f"{section}.{key}".removeprefix(".")
    assert VALIDATOR.is_valid(edited(of, {path: wrong})) is (not SHAPE.match(told))
    assert VALIDATOR.is_valid(edited(of, {path: right}))


def test_it_allows_what_is_left_out_and_variables() -> None:
    variables = {"databases.0.port": "${PORT:-3306}", "credentials.0.interval": "${INTERVAL}"}
    left_out: dict[str, object] = {"databases.0.ca_file": None, "runners.aws": {}}
    VALIDATOR.validate(edited(BOTH, {**variables, **left_out}))


@inputs(100)
@given(mutated(BOTH))
def test_a_schema_refuses_no_plan_that_is_valid(document: Any) -> None:  # noqa: ANN401 - a document
    text = spelled(document)
    try:
        parse_plan(text, base=Path(), environ={})
    except PlanProblemsError:
        return
    # Numbers may be given as texts: a variable is one, where the file quotes it.
    mistakes = [e for e in VALIDATOR.iter_errors(yaml(text)) if "integer" not in str(e.schema)]
    assert not mistakes, mistakes
