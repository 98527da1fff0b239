"""What becomes of each secret of a fleet, and the SQL of `lockstep plan sql`."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from lockstep.operate import secrets
from lockstep.operate.plan_sql.scripts import LiveRoleError, Provisioning, provisioning
from lockstep.operate.secrets import Action, StackTerms, Wanted, ring_terms, stack_terms
from lockstep.protocol.model import Engine, Strategy
from lockstep.protocol.names import SECRET_TAG, STACK_TAG, SecretKind
from lockstep.stores.contents import decode_app_user, extras_in
from sandbox import plans
from tests.unit.test_plan_mistakes import BOTH, edited, parse

KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OUTPUT = {
    "compartment_id": "ocid1.compartment.oc1..rings",
    "vault_id": "ocid1.vault.oc1.eu.aaaa",
    "key_id": "ocid1.key.oc1.eu.key",
    "freeform_tags": {"lockstep-stack": "lockstep"},
}


def test_settings_are_those_of_cdk_json_and_of_terraform() -> None:
    context = {"stack": "prod", "tags": {"team": "data"}, "adopt": {"encryption_key": KEY}, "canary": None}
    assert stack_terms({"context": context}) == StackTerms(stack="prod", key=KEY, tags={"team": "data"})
    assert stack_terms({"context": {"tags": {}, "adopt": None}}) == StackTerms()
    found = ring_terms({**OUTPUT, "defined_tags": None}, region="eu-frankfurt-1")
    assert (found.region, found.vault_id, found.defined_tags) == ("eu-frankfurt-1", OUTPUT["vault_id"], None)
    for told, wrong in (("object", []), ("context", {}), ("tags", {"context": {"tags": "team"}})):
        with pytest.raises(ValueError, match=told):
            stack_terms(wrong)
    for told, output in (("object", []), ("key_id", {**OUTPUT, "key_id": None})):
        with pytest.raises(ValueError, match=told):
            ring_terms(output, region="eu-frankfurt-1")
    # The first content leaves nothing to carry on.
    assert decode_app_user(secrets.FIRST_TEXT, store="s", secret="a") == (None, 0)
    extras = extras_in(secrets.FIRST_TEXT)
    assert (extras is None, bool(extras)) == (False, False)


# Secrets that are there


def test_every_secret_that_is_known_by_its_tags_is_wanted_once() -> None:
    shared = {
        "databases.1.admin_secret": plans.admin_secret("shop"),
        "runners.aws.oci_reader_key_secret": "r",
    }
    found = secrets.wanted(parse(edited(BOTH, shared)))
    assert [(one.name, one.kind.value) for one in found] == [
        *(("multi-cloud/app_user", "app_user"), ("multi-cloud/app_user.connection", "connection_blob")),
        *(("multi-cloud/stock_user", "app_user"), ("multi-cloud/stock_user.connection", "connection_blob")),
        *(("lockstep/admin/shop", "admin"), (plans.OCI_KEY_SECRET, "runner-key"), ("r", "runner-reader-key")),
    ]


TAGS = {STACK_TAG: "lockstep", SECRET_TAG: "app_user"}


@pytest.mark.parametrize(
    ("tags", "changes", "says"),
    [
        ({**TAGS, STACK_TAG: "other"}, {}, "'other', not 'lockstep'"),
        ({**TAGS, SECRET_TAG: "admin"}, {}, "'admin', not 'app_user'"),
        ({SECRET_TAG: "admin"}, {}, "'admin', not 'app_user'"),
        (TAGS, {"DeletedDate": datetime(2026, 1, 1, tzinfo=UTC)}, "scheduled for deletion"),
        (TAGS, {"PrimaryRegion": "eu-west-1"}, "replica of a secret in eu-west-1"),
        (TAGS, {"OwningService": "rds"}, "rds manages it"),
        (TAGS, {"RotationEnabled": True}, "rotates it by itself"),
    ],
)
def test_what_would_be_taken_from_others_or_cannot_work_is_in_the_way(
    tags: dict[str, str], changes: dict[str, Any], says: str
) -> None:
    one = Wanted(name="a", kind=SecretKind.APP_USER, region="eu-central-1")
    arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:dba/else-AbCdEf"
    found = {"ARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()], **changes}
    for consent in (False, True):  # Whether it is to be made or tagged.
        decided = secrets.in_aws(one, found, StackTerms(key=KEY), consent=consent)
        assert (decided.action, says in " ".join(decided.problems)) == (Action.REFUSE, True)


# The SQL that a DBA runs


def sql(engine: Engine, *, existing: bool = False, tls: str | None = "") -> Provisioning:
    databases = [plans.database("main", engine, tls=tls, admin_secret="lockstep/rotator")]
    credentials = [plans.credential("orders", "main", strategy=Strategy.ALTERNATING_USERS)]
    plan = parse(plans.plan_document(databases, credentials))
    return provisioning(plan, plan.credentials[0], plan.databases[0], existing=existing)


COLUMNS = "PROCESSLIST_ID, PROCESSLIST_USER, PROCESSLIST_HOST, PROCESSLIST_TIME, PROCESSLIST_COMMAND"
RIGHTS = {
    Engine.MARIADB: ["CREATE USER ON *.*", "SELECT (User, Host) ON mysql.user", "PROCESS ON *.*"],
    Engine.MYSQL: [
        "CREATE USER ON *.*",
        f"SELECT ({COLUMNS}) ON performance_schema.threads",
        "SELECT ON performance_schema.session_connect_attrs",
    ],
}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("engine", RIGHTS)
def test_the_rotation_user_gets_its_rights_and_no_account_changes(engine: Engine, *, existing: bool) -> None:
    script = sql(engine, existing=existing)
    granted = [s for s in script.statements if s.startswith("GRANT") and "lockstep_rotator" in s]
    assert granted == [f"GRANT {right} TO 'lockstep_rotator'@'%'" for right in RIGHTS[engine]]
    assert not [s for s in script.statements if " PASSWORD '" in s or "IDENTIFIED BY" in s]
    # An account that is made requires TLS, unless the plan says plaintext.
    for tls, required in (("", "REQUIRE SSL"), (None, "REQUIRE NONE")):
        created = [s for s in sql(engine, tls=tls).statements if s.startswith("CREATE USER")]
        assert [required in s for s in created] == [True] * 3
    # A live account would refuse who does not speak TLS yet: the statement is there to be read.
    assert not [s for s in script.statements if re.search(r"ALTER USER '+\w+'+@'+%'+ REQUIRE", s)]
    assert ("--   ALTER USER 'app_a'@'%' REQUIRE SSL;" in script.text().splitlines()) is existing


def test_on_postgresql_the_rotation_user_sees_no_statements_unless_a_dba_lets_it() -> None:
    script = sql(Engine.POSTGRESQL)
    statements = "\n".join(script.statements)
    assert not re.search(r"pg_read_all_stats| PASSWORD '|IDENTIFIED BY", statements)
    assert '--   GRANT pg_read_all_stats TO "lockstep_rotator";' in script.text().splitlines()
    # There is no script for a live role.
    with pytest.raises(LiveRoleError, match=r"act as app_owner, as docs/how-to/postgresql-live-login\.md"):
        sql(Engine.POSTGRESQL, existing=True)
