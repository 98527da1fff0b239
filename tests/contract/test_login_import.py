"""Import: the login that works is proven, put on record, and served everywhere (protocol O9)."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count

import pytest

from lockstep.audit.append import Chain, Operator
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.operate.login_import import Estate, LoginImport, import_login
from lockstep.protocol import errors
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.orders import accounts_of
from lockstep.stores.contents import encode_app_user
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from tests.contract.clouds import CREDENTIAL, TABLE, DynamoDbHarness, SecretsManagerHarness, VaultRingHarness
from tests.support.memory import PLACEHOLDER_TEXT, FakeClock, MemoryAuditLog, MemoryDatabase, MemorySigner

LOGIN = Login(CREDENTIAL.usernames[0], SecretStr("the password that works"))
TEXT = encode_app_user(CredentialValue(0, LOGIN), CREDENTIAL)
OTHER = TEXT.replace("works", "worked")

# One secret as a person edits it

StoreHarness = SecretsManagerHarness | VaultRingHarness
Clouds = tuple[SecretsManagerHarness, VaultRingHarness, DynamoDbHarness]


@pytest.fixture(scope="module")
def clouds() -> Iterator[Clouds]:
    with AwsSandbox() as aws, OciSandbox() as oci:
        yield SecretsManagerHarness(aws), VaultRingHarness(oci, slots=2), DynamoDbHarness(aws)


@pytest.fixture(params=["aws", "oci"])
def harness(request: pytest.FixtureRequest, clouds: Clouds) -> StoreHarness:
    """Secrets of their own, in a cloud that all tests share."""
    secrets, ring, _ = clouds
    return secrets.anew() if request.param == "aws" else ring.anew()


def is_text(text: str) -> bool:
    return text == TEXT


def rotate_to(harness: StoreHarness, *generations: int) -> None:
    for generation in generations:
        harness.secret.prepare(generation)(f'{{"generation": {generation}}}')
        commit = harness.secret.observe(generation).commit
        assert commit
        commit()


def test_an_edit_is_served_as_generation_0_in_place_of_what_rotations_made(harness: StoreHarness) -> None:
    secret = harness.secret
    assert not secret.serves(is_text)
    for rotated in ((), (1, 2, 3, 4)):
        rotate_to(harness, *rotated)
        secret.edit(TEXT, unless=is_text)
        assert secret.serves(is_text)
        current = secret.read_current()
        assert (current.generation, current.text) == (0, TEXT)
    assert secret.read_generation(4) is not None
    rotate_to(harness, 5)
    assert secret.read_current().generation == 5


def test_an_edit_whose_reply_was_lost_is_repeated(harness: StoreHarness) -> None:
    for call in range(1, 15):
        harness.edit("app_user", OTHER)
        try:
            with harness.lose_reply(call):
                harness.secret.edit(TEXT, unless=is_text)
        except errors.StoreUnreachableError:
            harness.secret.edit(TEXT, unless=is_text)
        assert harness.secret.serves(is_text)


def die() -> None:
    raise errors.StoreUnreachableError


def test_a_ring_serves_what_it_served_until_its_last_slot_is_written(clouds: Clouds) -> None:
    """An edit that dies on the way leaves readers with the value that they had (protocol I1)."""
    served: list[int] = []
    while 0 not in served:
        harness = clouds[1].anew()
        rotate_to(harness, 1, 2, 3, 4)
        with suppress(errors.StoreUnreachableError), harness.before_call(len(served) + 1, die):
            harness.secret.edit(TEXT, unless=is_text)
        served.append(harness.secret.read_current().generation)
    assert set(served) == {4, 0}
    # A full slot makes room.
    harness = clouds[1].anew()
    rotate_to(harness, *range(1, 60))
    harness.secret.edit(TEXT, unless=is_text)
    assert harness.secret.serves(is_text)


# The whole import


class World:
    """A lock table and a secret in AWS, a ring in OCI, two databases that accept LOGIN."""

    def __init__(
        self, secrets: SecretsManagerHarness, ring: VaultRingHarness, table: DynamoDbHarness
    ) -> None:
        self.secrets, self.table = secrets.anew(), table
        self.credential = self.secrets.credential
        self.ring = VaultRingHarness(ring.sandbox, self.credential, slots=2)
        strategy, usernames = self.credential.strategy, self.credential.usernames
        self.databases = [MemoryDatabase(name, strategy, usernames) for name in self.credential.databases]
        for database in self.databases:
            database.set_passwords(LOGIN.username, LOGIN.password.reveal())
        self.log, self.signer = MemoryAuditLog("aws", self.credential.id), MemorySigner("key")
        self.lock = DynamoDbLock(table.client, TABLE, self.credential.id)
        self.make: Callable[[str], list[str]] = lambda _store: []
        self._ids = count(1)

    def import_login(self, login: Login = LOGIN, *, replace: bool = False) -> LoginImport:
        clock = FakeClock()
        estate = Estate(
            credential=self.credential,
            databases=self.databases,
            secrets={"aws": self.secrets.secret, "oci": self.ring.secret},
            stores=[self.secrets.store, self.ring.store],
            make=self.make,
            orders=DynamoDbOrders(self.table.client, TABLE, self.credential.id),
            chain=Chain(credential_id=self.credential.id, lock=self.lock, log=self.log, signer=self.signer),
            clock=clock,
            by=Operator(who="ops", now=clock.now, new_id=lambda: f"{next(self._ids)}"),
        )
        return import_login(login, estate, replace=replace)

    def served(self) -> list[Login | None]:
        return [store.read_current().login for store in (self.secrets.store, self.ring.store)]

    def put(self, **attributes: object) -> None:
        self.table.put(self.credential.id, **attributes)


@pytest.fixture
def world(clouds: Clouds) -> World:
    clouds[2].forget()
    return World(*clouds)


def assert_untouched(world: World) -> None:
    assert world.served() == [None, None]
    assert (world.log.entries, world.lock.read().holder) == ({}, None)


def test_a_login_that_works_everywhere_is_served_everywhere_once(world: World) -> None:
    # The lock is held from before the first login to after the last write, so that no run begins.
    holders: list[str | None] = []
    for double in (world.databases[0], world.log):
        double.faults.before = lambda _operation: holders.append(world.lock.read().holder)
    done = world.import_login()
    assert done.written == ("aws", "oci")
    assert world.served() == [LOGIN, LOGIN]
    assert set(holders) == {"order-1"}
    assert [s.read_current().generation for s in (world.secrets.store, world.ring.store)] == [0, 0]
    assert LOGIN.password.reveal().encode() not in b"".join(body for body, _ in world.log.entries.values())
    record = world.lock.read()
    assert (record.holder, record.claim, record.current_generation) == (None, None, None)
    before = world.secrets.secret.read_current().id
    assert world.import_login() == LoginImport(entry=None, written=())
    assert world.secrets.secret.read_current().id == before
    assert len(world.log.entries) == 1


def test_what_a_store_lacks_is_made_first(world: World) -> None:
    """By what `lockstep secrets create` makes it with: tests/contract/test_secrets.py."""
    name = world.secrets.names["connection_blob"]
    world.secrets.remove("connection_blob")

    def make(_store: str) -> list[str]:
        world.secrets.console.create_secret(Name=name, SecretString=PLACEHOLDER_TEXT)
        return [name]

    world.make = make
    done = world.import_login()
    assert (done.made, done.written) == ((("aws", name),), ("aws", "oci"))
    assert world.served() == [LOGIN, LOGIN]
    assert world.import_login() == LoginImport()


@pytest.mark.parametrize(
    "why",
    [
        errors.StoreAccessDeniedError(store="aws"),
        errors.EnvironmentalError(errors.Environment.AWS_ACTION_DENIED),
        None,
    ],
)
def test_who_may_not_make_what_is_missing_is_told_who_does(
    world: World, why: errors.LockstepError | None
) -> None:
    """Or where it is not there after all; nothing of the credential is changed before."""
    world.secrets.remove("connection_blob")

    def make(_store: str) -> list[str]:
        if why:
            raise why
        return []

    world.make = make
    with pytest.raises(errors.OrderRefusedError, match="store=aws, code=not-made") as refused:
        world.import_login()
    assert "lockstep secrets create CREDENTIAL" in errors.described(refused.value).advice
    assert (world.log.entries, world.lock.read().holder) == ({}, None)
    assert world.ring.store.read_current().login is None


def test_an_import_that_died_half_way_is_finished_by_the_next(world: World) -> None:
    with pytest.raises(errors.StoreUnreachableError), world.ring.before_call(14, die):
        world.import_login()
    assert world.served() == [LOGIN, None]
    assert world.lock.read().holder is None
    assert world.import_login().written == ("oci",)
    assert world.served() == [LOGIN, LOGIN]
    assert world.import_login() == LoginImport()


def test_a_login_that_one_database_refuses_is_not_imported(world: World) -> None:
    tried: list[str] = []

    def note(name: str, operation: str) -> None:
        tried.append(f"{name} {operation}")

    for database in world.databases:
        database.faults.before = partial(note, database.name)
    with pytest.raises(errors.UnknownUsernameError):
        world.import_login(replace(LOGIN, username="somebody"))
    assert tried == []
    world.databases[0].set_passwords(LOGIN.username, "another")
    with pytest.raises(errors.OrderRefusedError, match="database=db-1") as caught:
        world.import_login()
    assert caught.value.where["code"] == "login-refused"
    assert tried == ["db-1 lock", "db-1 accepts"], "one refusal, under the advisory lock, and no more"
    assert_untouched(world)
    assert LOGIN.password.reveal() not in str(caught.value)


OPEN = {
    "pending_generation": {"N": "7"},
    "claim_kind": {"S": "new"},
    "base_generation": {"N": "6"},
    "claim_rotation_id": {"S": "run-7"},
    "highest_generation": {"N": "7"},
    "format": {"N": "1"},
}


def test_a_generation_that_no_store_can_serve_yet_is_no_hindrance(world: World) -> None:
    world.put(**OPEN)
    world.import_login()
    assert world.served() == [LOGIN, LOGIN]
    assert world.lock.read().claim is not None


def _expired(world: World) -> None:
    world.databases[0].accounts[LOGIN.username].expired = True


def _another_on_a_verify_host(world: World) -> None:
    usernames = world.credential.usernames
    world.databases[1] = MemoryDatabase("db-2", world.credential.strategy, usernames, verify_hosts=1)
    world.databases[1].set_passwords(LOGIN.username, "another")


def _owned(world: World) -> None:
    other = DynamoDbOrders(world.table.client, TABLE, "multi-cloud/other")
    other.register(next(iter(accounts_of(world.credential))))


def _too_large(world: World) -> None:
    world.ring.edit("app_user", json.dumps({"placeholder": True, "notes": "x" * 25_500}))


REFUSED: dict[str, tuple[Callable[[World], None], type[errors.LockstepError], str]] = {
    # PostgreSQL tells the client nothing else.
    "expired": (_expired, errors.AccountExpiredError, "VALID UNTIL"),
    "another on a verify host": (_another_on_a_verify_host, errors.OrderRefusedError, "database=db-2"),
    "of another credential": (_owned, errors.OrderRefusedError, "owner=multi-cloud/other"),
    "a promotion that is half done": (
        lambda world: world.put(**OPEN, promoting={"BOOL": True}),
        errors.OrderRefusedError,
        "generation=7, code=promoting",
    ),
    "a text that would be too large": (_too_large, errors.SecretTooLargeError, "code=over-25600-bytes"),
}


@pytest.mark.parametrize(("break_it", "error", "says"), REFUSED.values(), ids=REFUSED)
def test_what_stands_in_the_way_is_told_and_nothing_is_changed(
    world: World, break_it: Callable[[World], None], error: type[errors.LockstepError], says: str
) -> None:
    break_it(world)
    with pytest.raises(error, match=says):
        world.import_login()
    assert_untouched(world)


def test_a_text_that_is_no_login_is_replaced_and_what_is_no_json_object_only_on_demand(world: World) -> None:
    world.secrets.edit("app_user", "hunter2")
    world.ring.edit("app_user", '{"user": "app"}')
    with pytest.raises(errors.OrderRefusedError, match="store=aws, code=not-a-json-object") as refused:
        world.import_login()
    assert "hunter2" not in str(refused.value)
    assert world.secrets.current_text("app_user") == "hunter2"
    world.secrets.console.put_secret_value(SecretId=world.secrets.names["app_user"], SecretBinary=b"hunter2")
    with pytest.raises(errors.OrderRefusedError, match="store=aws, code=binary"):
        world.import_login()
    assert world.import_login(replace=True).written == ("aws", "oci")
    assert world.served() == [LOGIN, LOGIN]


def test_the_other_keys_of_every_store_are_kept(world: World) -> None:
    world.secrets.edit("app_user", '{"username": "old", "ssl": true, "rate": 0.10}')
    world.ring.edit("app_user", '{"username": "old", "team": {"a": [1e400, null]}}')
    world.import_login()
    assert '"ssl":true,"rate":0.10}' in world.secrets.current_text("app_user")
    for slot in world.ring.ids["app_user"]:
        assert world.ring.console.current(slot)[1].endswith('"username":"app","team":{"a": [1e400, null]}}')
    assert world.served() == [LOGIN, LOGIN]
