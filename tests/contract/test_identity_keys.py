"""`lockstep identity rotate-key` over HTTP: keys are exchanged without a gap, from wherever it was interrupted."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from oci.exceptions import ServiceError  # type: ignore[import-untyped]  # likewise
from typer.testing import CliRunner, Result

from lockstep import runner_keys
from lockstep.aws.access_keys import AccessKeys
from lockstep.aws.key_secret import KeySecret
from lockstep.cli import app
from lockstep.cli.identity_keys import _Signed
from lockstep.cli.identity_kinds import AccessKeyInOci, ApiKeyInAws
from lockstep.errors import StoreUnreachableError
from lockstep.model import Engine
from lockstep.oci.api_keys import ApiKeys
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.vault import Vault
from lockstep.store_kinds.oci_names import oci_name
from sandbox import plans
from sandbox.aws.server import AwsSandbox
from sandbox.estate import environment
from sandbox.oci import OciSandbox, write_config_file
from tests.contract.test_calls_of_commands import listed_in_oci

READER = "lockstep/oci-reader-key"
USER = "lockstep-oci-runner"
REFUSED = 401
LONG, SHORT = timedelta(hours=1), timedelta(seconds=1)


@dataclass
class Runners:
    """Both clouds with the runners' keys, and the command between them."""

    aws: AwsSandbox
    oci: OciSandbox
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        rights = set().union(*listed_in_oci("identity rotate-key aws").values())
        rights |= set().union(*listed_in_oci("identity rotate-key oci").values())
        self.deployer = self.oci.new_api_key("deployer", *rights)
        self.put_api_key(plans.OCI_KEY_SECRET, "writer")
        self.iam.create_user(UserName=USER)
        made = self.iam.create_access_key(UserName=USER)["AccessKey"]
        content = oci.vault.models.Base64SecretContentDetails(
            content=base64.b64encode(
                json.dumps(
                    {
                        "access_key_id": made["AccessKeyId"],
                        "secret_access_key": made["SecretAccessKey"],
                        "note": "kept",
                    }
                ).encode()
            ).decode()
        )
        details = oci.vault.models.CreateSecretDetails(
            compartment_id=self.oci.own_compartment_id,
            vault_id=self.oci.vault_id,
            key_id=self.oci.key_id,
            secret_name=oci_name(plans.AWS_KEY_SECRET),
            secret_content=content,
        )
        self.secret_id = self.oci.client(oci.vault.VaultsClient).create_secret(details).data.id
        self.plan()
        self.grace(SHORT)

    def plan(self, **aws: object) -> None:
        names = plans.OciNames(
            compartment_id=self.oci.compartment_id,
            own_compartment_id=self.oci.own_compartment_id,
            vault_id=self.oci.vault_id,
        )
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, tls={})],
            [plans.credential("multi-cloud/app_user", "orders")],
            oci=names,
        )
        document["runners"]["aws"] |= aws
        (self.folder / "lockstep.yaml").write_text(json.dumps(document))

    def grace(self, time: timedelta) -> None:
        self.monkeypatch.setattr(runner_keys, "GRACE", time)

    # ---- what is there

    @property
    def iam(self) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        return self.aws.client("iam")

    @property
    def secrets(self) -> Any:  # noqa: ANN401 - likewise
        return self.aws.client("secretsmanager")

    def put_api_key(self, secret: str, user: str) -> None:
        """A secret in AWS with a new key of a user."""
        config = self.oci.new_api_key(user)
        key = {name: config[name] for name in ("tenancy", "user", "fingerprint", "region")}
        self.secrets.create_secret(
            Name=secret,
            SecretString=json.dumps({**key, "private_key": config["key_content"], "note": "kept"}),
        )

    def api_key(self, secret: str = plans.OCI_KEY_SECRET) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.secrets.get_secret_value(SecretId=secret)["SecretString"])
        return found

    def fingerprints(self, user: str = "writer") -> set[str]:
        return {key.fingerprint for key in self.oci.identity.api_keys(self.oci.identity.principal(user).ocid)}

    def access_key(self) -> dict[str, str]:
        client: Any = self.oci.client(oci.secrets.SecretsClient)
        content = client.get_secret_bundle(self.secret_id).data.secret_bundle_content.content
        found: dict[str, str] = json.loads(base64.b64decode(content))
        return found

    @property
    def access_keys(self) -> dict[str, str]:
        """The user's keys, with their status."""
        found = self.iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in found}

    def works(self, key: dict[str, str]) -> bool:
        """Whether OCI takes calls that an API key signs."""
        config = {**key, "key_content": key["private_key"]}
        try:
            self.oci.client(oci.identity.IdentityClient, config).list_api_keys(key["user"])
        except ServiceError as error:
            return bool(error.status != REFUSED)
        return True

    # ---- the command

    @property
    def variables(self) -> dict[str, str]:
        return {
            **self.aws.environment(),
            "LOCKSTEP_OCI_ENDPOINT": self.oci.endpoint,
            "OCI_CONFIG_FILE": str(write_config_file(self.folder, "deployer", self.deployer)),
        }

    @property
    def words(self) -> list[str]:
        return ["identity", "rotate-key", "-p", str(self.folder / "lockstep.yaml")]

    def run(self, *words: str) -> Result:
        """Run the command, which shows no secret."""
        before = [self.api_key()["private_key"], self.access_key()["secret_access_key"]]
        with environment(self.variables):
            result = CliRunner().invoke(app, [*self.words, *words])
        for secret in (*before, self.api_key()["private_key"], self.access_key()["secret_access_key"]):
            assert secret not in result.output
            assert secret.splitlines()[-2:][0] not in result.output
        assert "PRIVATE KEY" not in result.output
        return result

    def done(self, *words: str) -> list[dict[str, Any]]:
        """Run the command, which succeeds; what it says of each key."""
        shown = self.run("--yes", "--json", *words)
        assert shown.exit_code == 0, shown.output
        found: list[dict[str, Any]] = json.loads(shown.stdout)["keys"]
        return found


class DiedError(Exception):
    """The end of the process."""


CHANGES = (
    (KeySecret, "stage"),
    (KeySecret, "promote"),
    (ApiKeys, "upload"),
    (ApiKeys, "delete"),
)


def recorded(patch: pytest.MonkeyPatch, *methods: tuple[type, str], dies_after: int = 0) -> list[str]:
    """The calls of these methods from now on; after so many of them the process ends."""
    calls: list[str] = []

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recording(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - of any call
            calls.append(name)
            result = call(*arguments, **more)
            if len(calls) == dies_after:
                raise DiedError
            return result

        return recording

    for kind, name in methods:
        patch.setattr(kind, name, wrapped(name, getattr(kind, name)))
    return calls


@pytest.fixture(name="runners")
def _runners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runners]:
    monkeypatch.setattr(runner_keys, "_PAUSE_SECONDS", 0.02)
    with AwsSandbox() as aws, OciSandbox() as oci_sandbox:
        yield Runners(aws, oci_sandbox, tmp_path, monkeypatch)


def test_an_api_key_is_replaced_and_the_old_one_deleted(runners: Runners) -> None:
    old = runners.api_key()
    [told] = runners.done("aws")
    new = runners.api_key()
    assert runners.fingerprints() == {new["fingerprint"]}
    assert new["fingerprint"] != old["fingerprint"]
    assert {**new, "fingerprint": "", "private_key": ""} == {**old, "fingerprint": "", "private_key": ""}
    assert runners.works(new)
    assert not runners.works(old)
    assert (told["key"], told["deleted"], told["next"]) == (
        new["fingerprint"],
        [old["fingerprint"]],
        "done",
    )
    # What is pending is what is current: the next one is another key again.
    [again] = runners.done("aws")
    assert again["key"] not in {old["fingerprint"], new["fingerprint"]}
    assert runners.fingerprints() == {again["key"]}


def test_the_old_key_works_until_no_run_can_have_it(runners: Runners) -> None:
    old = runners.api_key()
    runners.grace(LONG)
    [told] = runners.done("aws", "--no-wait")
    assert (told["next"], told["old_key"]) == ("wait", old["fingerprint"])
    assert told["old_key_until"]
    assert runners.works(old)
    assert runners.works(runners.api_key())
    [still] = runners.done("aws", "--no-wait")
    assert (still["replaced"], still["deleted"], still["next"]) == (False, [], "wait")
    assert runners.works(old)
    runners.grace(timedelta())
    [over] = runners.done("aws", "--no-wait")
    assert (over["replaced"], over["deleted"], over["key"]) == (False, [old["fingerprint"]], told["key"])
    assert not runners.works(old)


def test_an_access_key_is_replaced_deactivated_and_deleted(runners: Runners) -> None:
    old = runners.access_key()
    calls = recorded(
        runners.monkeypatch, (AccessKeys, "make"), (AccessKeys, "deactivate"), (AccessKeys, "delete")
    )
    [told] = runners.done("oci")
    new = runners.access_key()
    assert runners.access_keys == {new["access_key_id"]: "Active"}
    assert new["note"] == "kept"
    assert (told["key"], told["deleted"], told["owner"]) == (
        new["access_key_id"],
        [old["access_key_id"]],
        USER,
    )
    assert calls == ["make", "deactivate", "delete"]


def test_an_access_key_is_finished_by_another_run(runners: Runners) -> None:
    old = runners.access_key()
    runners.grace(LONG)
    [told] = runners.done("oci", "--no-wait")
    assert runners.access_keys == {old["access_key_id"]: "Active", told["key"]: "Active"}
    runners.grace(timedelta())
    [over] = runners.done("oci", "--no-wait")
    assert over["deleted"] == [old["access_key_id"]]
    assert runners.access_keys == {told["key"]: "Active"}


def test_every_key_of_the_plan_is_replaced_together(runners: Runners) -> None:
    runners.put_api_key(READER, "reader")
    runners.plan(oci_reader_key_secret=READER)
    old = [runners.api_key(), runners.api_key(READER)]
    told = runners.done()
    assert [(k["runner"], k["secret"]) for k in told] == [
        ("aws", plans.OCI_KEY_SECRET),
        ("aws", READER),
        ("oci", oci_name(plans.AWS_KEY_SECRET)),
    ]
    assert runners.fingerprints() == {runners.api_key()["fingerprint"]}
    assert runners.fingerprints("reader") == {runners.api_key(READER)["fingerprint"]}
    assert not any(map(runners.works, old))


def test_a_key_that_two_secrets_have_is_deleted_when_neither_has_it(runners: Runners) -> None:
    runners.secrets.create_secret(Name=READER, SecretString=json.dumps(runners.api_key()))
    runners.plan(oci_reader_key_secret=READER)
    runners.grace(timedelta())

    def check(moment: str, operation: str, _resource: str) -> None:
        if (moment, operation) == ("after", "delete_api_key"):
            assert runners.works(runners.api_key())
            assert runners.works(runners.api_key(READER))

    runners.oci.on_call = check
    runners.done("aws")
    current = {runners.api_key()["fingerprint"], runners.api_key(READER)["fingerprint"]}
    assert runners.fingerprints() == current
    assert len(current) == 2


def test_an_old_key_that_somebody_puts_back_is_not_deleted(runners: Runners) -> None:
    """After the last look, as in an emergency in which the new key is blamed."""
    api, access = runners.api_key(), runners.access_key()

    def put_back(delete: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
        def late(key: Any, old: str) -> None:  # noqa: ANN401 - of both kinds
            if isinstance(key, ApiKeyInAws):
                runners.secrets.put_secret_value(SecretId=plans.OCI_KEY_SECRET, SecretString=json.dumps(api))
            else:
                content = base64.b64encode(json.dumps(access).encode()).decode()
                details = oci.vault.models.UpdateSecretDetails(
                    secret_content=oci.vault.models.Base64SecretContentDetails(content=content)
                )
                runners.oci.client(oci.vault.VaultsClient).update_secret(runners.secret_id, details)
            delete(key, old)

        return late

    for kind in (ApiKeyInAws, AccessKeyInOci):
        runners.monkeypatch.setattr(kind, "delete", put_back(kind.delete))
    for runner in ("aws", "oci"):
        shown = runners.run(runner, "--yes")
        assert (shown.exit_code, "LostCompareAndSetError" in shown.output) == (3, True), shown.output
    assert runners.works(api)
    assert runners.access_keys[access["access_key_id"]] == "Active"


@pytest.mark.parametrize("times", range(1, 6))
def test_an_api_key_is_finished_from_every_interruption(runners: Runners, times: int) -> None:
    """The command dies after the n-th thing that it changes; what is stored always works."""
    with pytest.MonkeyPatch.context() as patch:
        calls = recorded(patch, *CHANGES, dies_after=times)
        died = runners.run("aws", "--yes")
    assert calls == ["stage", "upload", "stage", "promote", "delete"][:times]
    assert died.exit_code == 3
    assert "DiedError" in died.output
    assert runners.works(runners.api_key())
    runners.done("aws")
    assert runners.works(runners.api_key())
    assert runners.fingerprints() == {runners.api_key()["fingerprint"]}


def test_a_key_that_never_works_is_not_stored(runners: Runners) -> None:
    old = runners.api_key()
    runners.monkeypatch.setattr(runner_keys, "_WITHIN_SECONDS", 0.2)
    runners.oci.identity.key_lag = LONG
    # What is there already works all the same.
    for key in list(runners.oci.identity._keys):
        found = runners.oci.identity._keys[key]
        runners.oci.identity._keys[key] = type(found)(
            found.public_key, found.principal, found.fingerprint, found.time_created - 2 * LONG
        )
    shown = runners.run("aws", "--yes")
    assert shown.exit_code == 3
    assert "OciIdentityRefusedError" in shown.output
    assert runners.api_key() == old
    runners.oci.identity.key_lag = timedelta()
    runners.done("aws")
    assert len(runners.fingerprints()) == 1
    assert not runners.works(old)


def test_a_key_that_is_known_late_is_waited_for(runners: Runners) -> None:
    runners.done("aws")
    runners.oci.identity.key_lag = timedelta(seconds=0.3)
    # The deployer's key is older than that by now.
    runners.done("aws")
    assert runners.fingerprints() == {runners.api_key()["fingerprint"]}


def test_a_new_key_works_in_every_region_before_a_runner_has_it(runners: Runners) -> None:
    """The key is registered in one region, and known in the others when they hear of it."""
    home = "us-ashburn-1"
    runners.secrets.put_secret_value(
        SecretId=plans.OCI_KEY_SECRET, SecretString=json.dumps({**runners.api_key(), "region": home})
    )
    document = json.loads((runners.folder / "lockstep.yaml").read_text())
    document["audit"]["oci"]["region"] = "uk-london-1"
    (runners.folder / "lockstep.yaml").write_text(json.dumps(document))
    proven: list[str] = []

    def recording(signed: _Signed, identity: OciIdentity, region: str) -> OciClients:
        proven.append(region)
        return oci_clients(signed, identity, region)

    oci_clients: Callable[[_Signed, OciIdentity, str], OciClients] = _Signed.oci
    runners.monkeypatch.setattr(_Signed, "oci", recording)
    calls = recorded(runners.monkeypatch, *CHANGES)
    runners.monkeypatch.setattr(
        KeySecret, "promote", _after(KeySecret.promote, lambda: calls.append(str(proven)))
    )
    runners.done("aws")
    everywhere = [home, "eu-frankfurt-1", "uk-london-1"]
    assert calls == ["stage", "upload", "stage", str(everywhere), "promote", "delete"]


def _after(call: Callable[..., Any], before: Callable[[], object]) -> Callable[..., Any]:
    def both(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - of any call
        before()
        return call(*arguments, **more)

    return both


def test_keys_that_no_secret_has_are_named_and_deleted_by_order_alone(runners: Runners) -> None:
    strangers = [runners.oci.new_api_key("writer")["fingerprint"] for _ in range(2)]
    before = runners.fingerprints()
    shown = runners.run("aws", "--yes")
    assert shown.exit_code == 1
    assert f"lockstep identity rotate-key aws --delete {strangers[0]}" in shown.output
    assert strangers[1] in shown.output
    assert runners.fingerprints() == before
    assert runners.run("aws", "--dry-run").exit_code == 1
    used = runners.run("aws", "--yes", "--delete", runners.api_key()["fingerprint"])
    assert used.exit_code == 2
    assert "a runner uses it" in used.output
    assert runners.run("aws", "--yes", "--delete", "00:11").exit_code == 2
    assert runners.fingerprints() == before
    [told] = runners.done("aws", "--delete", strangers[0])
    assert strangers[0] in told["deleted"]
    assert runners.fingerprints() == {strangers[1], runners.api_key()["fingerprint"]}


def test_an_access_key_that_was_made_and_not_stored_is_named(runners: Runners) -> None:
    other = runners.iam.create_access_key(UserName=USER)["AccessKey"]["AccessKeyId"]
    shown = runners.run("oci", "--yes")
    assert shown.exit_code == 1
    assert f"lockstep identity rotate-key oci --delete {other}" in shown.output
    runners.done("oci", "--delete", other)
    assert runners.access_keys == {runners.access_key()["access_key_id"]: "Active"}


def test_an_access_key_that_cannot_be_stored_is_deleted(runners: Runners) -> None:
    before = runners.access_keys
    runners.oci.identity.forbid("deployer", "SECRET_UPDATE")
    assert runners.run("oci", "--yes").exit_code == 3
    assert runners.access_keys == before


def test_an_access_key_stays_where_it_may_have_been_stored(runners: Runners) -> None:
    old = runners.access_key()
    runners.grace(LONG)
    put = Vault.put_current

    def lost(*arguments: Any, **more: Any) -> None:  # noqa: ANN401 - of the call
        put(*arguments, **more)
        raise StoreUnreachableError(store="oci")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Vault, "put_current", lost)
        assert runners.run("oci", "--yes", "--no-wait").exit_code == 3
    stored = runners.access_key()["access_key_id"]
    assert runners.access_keys == {old["access_key_id"]: "Active", stored: "Active"}
    runners.grace(timedelta())
    runners.done("oci")
    assert runners.access_keys == {stored: "Active"}


def test_it_asks_first_and_changes_nothing_without_an_answer(runners: Runners) -> None:
    old, keys = runners.api_key(), runners.access_keys
    shown = runners.run()
    assert shown.exit_code == 2
    assert "--yes" in shown.output
    dry = runners.run("--dry-run")
    assert dry.exit_code == 0
    assert f"replace the API key of {plans.OCI_KEY_SECRET}, {old['fingerprint']}, 0 days old" in dry.stdout
    assert (runners.api_key(), runners.access_keys) == (old, keys)


def test_without_a_key_there_is_nothing_to_do(runners: Runners) -> None:
    document = json.loads((runners.folder / "lockstep.yaml").read_text())
    document["runners"] = {"aws": {"federation": plans.TO_OCI}, "oci": {"federation": plans.TO_AWS}}
    (runners.folder / "lockstep.yaml").write_text(json.dumps(document))
    shown = runners.run()
    assert (shown.exit_code, shown.stdout) == (0, "no long-lived key: nothing to replace\n")
    assert json.loads(runners.run("--json").stdout)["keys"] == []
    assert runners.run("oci").exit_code == 2


def test_the_owner_of_an_access_key_is_asked_for_where_aws_does_not_know_it(runners: Runners) -> None:
    runners.iam.delete_access_key(UserName=USER, AccessKeyId=runners.access_key()["access_key_id"])
    shown = runners.run("oci", "--yes")
    assert shown.exit_code == 2
    assert "--user" in shown.output
    [told] = runners.done("oci", "--user", USER)
    assert runners.access_keys == {told["key"]: "Active"}


def test_a_runner_does_not_become_another_user(runners: Runners) -> None:
    runners.iam.create_user(UserName="somebody")
    before = runners.access_key()
    shown = runners.run("oci", "--yes", "--user", "somebody")
    assert (shown.exit_code, f"is a key of {USER}" in shown.output) == (2, True), shown.output
    assert runners.access_key() == before
    assert runners.iam.list_access_keys(UserName="somebody")["AccessKeyMetadata"] == []
    [told] = runners.done("oci", "--user", USER)
    assert runners.access_keys == {told["key"]: "Active"}


def test_a_secret_that_holds_no_key_is_told(runners: Runners) -> None:
    runners.secrets.put_secret_value(SecretId=plans.OCI_KEY_SECRET, SecretString='{"private_key": "hunter2"}')
    with environment(runners.variables):
        result = CliRunner().invoke(app, [*runners.words, "aws", "--yes"])
    assert result.exit_code == 3
    assert "not-a-key" in result.output
    assert "hunter2" not in result.output
