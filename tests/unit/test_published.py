"""A published plan: its documents say what the plan says, and each proves that it is of the plan that was deployed."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from msgspec import structs

from lockstep.plan import checks
from lockstep.plan import published as documents
from lockstep.plan import published as merkle
from lockstep.plan.checks import publication_problems
from lockstep.plan.compiled import AccessKey, hosted_plan
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from lockstep.plan.published import (
    INDEX,
    FolderOfPlan,
    Place,
    PlanInFolder,
    PlanInObjectStorage,
    PlanInS3,
    Published,
    PublishedPlan,
    WholePlan,
    compile_plan,
    credential_name,
    place_of,
)
from lockstep.protocol.errors import (
    InvalidPlanError,
    InvalidRequestError,
    LockstepError,
    NewerFormatError,
    PlanAccessDeniedError,
    PlanDocumentMissingError,
    PlanDocumentRefusedError,
)
from lockstep.protocol.schedule import run_key
from tests.infrastructure.cdk_case import PLAN as WITH_CA_FILES
from tests.proof.tampering_plants import Plant

ROOT = Path(__file__).resolve().parents[2]
PLAN_FILE = ROOT / WITH_CA_FILES
DIGEST = "0123456789abcdef" * 4
OTHER_KEY = AccessKey(secret="lockstep/another")


@pytest.fixture(scope="module", name="plan")
def _plan() -> Plan:
    return load_plan(PLAN_FILE)


@pytest.fixture(scope="module", name="published")
def _published(plan: Plan) -> Published:
    return compile_plan(plan.compiled, plan.shards, PLAN_FILE.parent)


class Kept:
    """Files of documents; counts what is read."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: list[str] = []

    def read(self, name: str, limit: int) -> bytes | None:
        self.asked.append(name)
        file = self.files.get(name)
        return None if file is None else file[: limit + 1]


def source(published: Published, kept: Kept, *, keep: int = 256) -> PublishedPlan:
    return PublishedPlan(published.digest, kept, ca_folder=PLAN_FILE.parent, kept=keep)


def names_of(plan: Plan) -> list[str]:
    return [credential_name(run_key(c.id)) for c in plan.credentials]


# What they say


def test_a_credential_and_what_does_not_belong_to_one_are_as_in_the_plan(
    plan: Plan, published: Published
) -> None:
    kept = Kept(published.files)
    found = source(published, kept)
    for credential in plan.credentials:
        expected = structs.replace(plan.compiled, credentials=(credential,))
        assert found.of(credential.id) == expected
    assert found.plan == structs.replace(plan.compiled, credentials=())
    assert kept.asked == names_of(plan)


def test_the_index_is_that_of_the_plan(plan: Plan, published: Published) -> None:
    kept = Kept(published.files)
    found = source(published, kept)
    assert found.index == WholePlan(plan.compiled).index == found.index
    assert [c.id for c in found.index.credentials] == [c.id for c in plan.credentials]
    assert [c.schedule for c in found.index.credentials] == [c.schedule for c in plan.credentials]
    assert found.plan == found.index.plan
    assert kept.asked == [INDEX]


def test_a_shard_is_a_list_for_the_map_and_names_no_host(plan: Plan, published: Published) -> None:
    listed = [
        (name, json.loads(file)) for name, file in published.files.items() if name.startswith("shards/")
    ]
    assert listed == [
        (
            f"shards/{shard.name}.json",
            [{"credential_id": key, "key": run_key(key)} for key in shard.credential_ids],
        )
        for shard in plan.shards
    ]


def test_the_same_plan_has_the_same_digest_wherever_it_is(published: Published, tmp_path: Path) -> None:
    shutil.copytree(PLAN_FILE.parent, tmp_path / "elsewhere")
    file = tmp_path / "elsewhere" / PLAN_FILE.name
    moved = load_plan(file)
    again = compile_plan(moved.compiled, moved.shards, file.parent)
    assert (again.digest, again.files) == (published.digest, published.files)
    assert str(PLAN_FILE.parent).encode() not in b"".join(published.files.values())


def test_anything_in_the_plan_changes_the_digest(plan: Plan, published: Published) -> None:
    # What the plan digest of a credential leaves out counts, too.
    other = structs.replace(plan.compiled, to_aws=OTHER_KEY)
    assert compile_plan(other, plan.shards, PLAN_FILE.parent).digest != published.digest
    assert compile_plan(plan.compiled, plan.shards[:0], PLAN_FILE.parent).digest != published.digest


def test_documents_are_read_once_and_the_oldest_are_forgotten(plan: Plan, published: Published) -> None:
    first, second = (c.id for c in plan.credentials[:2])
    kept = Kept(published.files)
    found = source(published, kept, keep=1)
    for credential_id in (first, first, second, first):
        found.of(credential_id)
    one, other = names_of(plan)[:2]
    assert kept.asked == [one, other, one]


# What is refused


def test_ids_with_one_key_are_named(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key has 64 bits of a hash; nobody has seen two ids with one."""
    assert list(publication_problems(plan, PLAN_FILE.parent)) == []
    first, second, *_ = (c.id for c in plan.credentials)
    monkeypatch.setattr(
        checks, "run_key", lambda key: "0123456789abcdef" if key in (first, second) else run_key(key)
    )
    (problem,) = publication_problems(plan, PLAN_FILE.parent)
    assert problem == (
        f"credentials[1].id: {second} and {first} have one key, 0123456789abcdef, by which documents and executions "
        "are named; give one of them another id"
    )


def _tampered(file: bytes) -> bytes:
    return file.replace(b'"port":3306', b'"port":3307')


def _with_another_path(file: bytes) -> bytes:
    found = json.loads(file)
    return json.dumps({**found, "path": ["r" + "0" * 64, *found["path"]]}).encode()


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a changed value": (_tampered, "not-of-this-plan"),
    "cut": (lambda file: file[:-40], "not-json"),
    "empty": (lambda _: b"", "not-json"),
    "not JSON": (lambda _: b"<html>a proxy's page</html>", "not-json"),
    "another shape": (lambda _: b"[]", "not-json"),
    "without a path": (
        lambda file: json.dumps({"document": json.loads(file)["document"]}).encode(),
        "not-json",
    ),
    "another path": (_with_another_path, "not-of-this-plan"),
    "a path that is none": (
        lambda file: json.dumps({**json.loads(file), "path": [{"a": 1}]}).encode(),
        "not-of-this-plan",
    ),
    "a long path": (
        lambda file: json.dumps({**json.loads(file), "path": ["r" + "0" * 64] * 65}).encode(),
        "not-of-this-plan",
    ),
    "huge": (lambda file: file + b" " * documents.MAX_DOCUMENT_BYTES, "too-large"),
    "nested too deeply": (lambda _: b'{"document":' + b"[" * 100_000, "not-json"),
    "a lone surrogate": (lambda _: b'{"document":"\\ud800","path":[]}', "not-json"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_document_that_is_not_the_plans_is_refused(bad: str, plan: Plan, published: Published) -> None:
    change, code = BAD[bad]
    name, credential_id = names_of(plan)[0], plan.credentials[0].id
    changed = change(published.files[name])
    assert changed != published.files[name]
    found = source(published, Kept({**published.files, name: changed}))
    with pytest.raises(PlanDocumentRefusedError) as error:
        found.of(credential_id)
    assert error.value.where == {"path": name, "code": code}
    assert "lockstep plan publish" in str(error.value)
    assert error.value.__cause__ is None


def test_the_valid_document_of_another_credential_is_refused(plan: Plan, published: Published) -> None:
    name, other = names_of(plan)[:2]
    found = source(published, Kept({name: published.files[other]}))
    with pytest.raises(PlanDocumentRefusedError) as error:
        found.of(plan.credentials[0].id)
    assert error.value.where["code"] == "not-of-this-plan"


def test_the_valid_document_of_an_older_plan_is_refused(plan: Plan, published: Published) -> None:
    older = compile_plan(
        structs.replace(plan.compiled, to_aws=OTHER_KEY),
        plan.shards,
        PLAN_FILE.parent,
    )
    found = source(published, Kept(older.files))
    for read in (lambda: found.of(plan.credentials[0].id), lambda: found.index):
        with pytest.raises(PlanDocumentRefusedError):
            read()


def test_a_document_that_is_not_there_is_missing(published: Published) -> None:
    found = source(published, Kept({}))
    with pytest.raises(PlanDocumentMissingError, match="lockstep plan publish"):
        found.of("multi-cloud/other")
    with pytest.raises(PlanDocumentMissingError):
        _ = found.index


def test_a_document_of_another_build_is_not_read() -> None:
    content = documents.canonical({"format": "2", "plan": {}})
    digest = merkle.root(INDEX, content, [])
    kept = Kept({INDEX: documents.enveloped(content, [])})
    with pytest.raises(NewerFormatError):
        _ = PublishedPlan(digest, kept, ca_folder=ROOT).index


def test_a_refused_document_is_asked_for_again(plan: Plan, published: Published) -> None:
    """Once the plan's own is back in its place, the function goes on without a new start."""
    name, credential_id = names_of(plan)[0], plan.credentials[0].id
    kept = Kept({name: b"{}"})
    found = source(published, kept)
    with pytest.raises(PlanDocumentRefusedError):
        found.of(credential_id)
    kept.files[name] = published.files[name]
    assert found.of(credential_id).credential(credential_id)


def test_a_whole_plan_refuses_an_unknown_credential(plan: Plan) -> None:
    with pytest.raises(InvalidRequestError):
        WholePlan(plan.compiled).of("multi-cloud/other")


# A folder of this machine


def test_a_folder_is_read_as_a_bucket(plan: Plan, published: Published, tmp_path: Path) -> None:
    folder = tmp_path / published.digest
    for name, file in published.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file)
    place = place_of(str(folder))
    assert isinstance(place, PlanInFolder)
    found = PublishedPlan(place.digest, FolderOfPlan(place.folder), ca_folder=place.folder)
    assert found.index.credentials == WholePlan(plan.compiled).index.credentials
    (server, *_) = found.of(plan.credentials[0].id).credentials[0].servers
    assert all(ca.is_relative_to(folder) for ca in server.ca_files)
    (folder / INDEX).unlink()
    (folder / INDEX).mkdir()
    with pytest.raises(LockstepError) as error:
        FolderOfPlan(folder).read(INDEX, 10)
    assert not isinstance(error.value, PlanAccessDeniedError)


# Where it is


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            f"s3://acme-audit-plans/plans/{DIGEST}?region=eu-west-1",
            PlanInS3(bucket="acme-audit-plans", digest=DIGEST, region="eu-west-1"),
        ),
        (
            f"oci://acmens/audit-plans/plans/{DIGEST}?region=eu-frankfurt-1",
            PlanInObjectStorage(
                namespace="acmens", bucket="audit-plans", digest=DIGEST, region="eu-frankfurt-1"
            ),
        ),
        ("plan/lockstep.yaml", Path("plan/lockstep.yaml")),
        (f"nowhere/{DIGEST}", Path(f"nowhere/{DIGEST}")),
    ],
)
def test_the_environment_says_where_the_plan_is(said: str, meant: Place) -> None:
    assert place_of(said) == meant
    if isinstance(meant, PlanInS3 | PlanInObjectStorage):
        assert str(meant) == said


@pytest.mark.parametrize(
    "said",
    [
        f"s3://acme/{DIGEST}?region=eu-west-1",
        f"s3://acme-audit/plans/{DIGEST}",
        f"s3://acme-audit/plans/{DIGEST[1:]}?region=eu-west-1",
        f"s3://acme-audit/plans/{DIGEST}/../x?region=eu-west-1",
        f"oci://acme/plans/{DIGEST}?region=eu-west-1",
        f"s3://acme-audit/plans/{DIGEST.upper()}?region=eu-west-1",
    ],
)
def test_what_only_begins_as_an_address_is_refused(said: str) -> None:
    with pytest.raises(InvalidPlanError):
        place_of(said)


# The tree


def test_the_tree_is_that_of_rfc_6962_with_names() -> None:
    def leaf(name: str, content: bytes) -> bytes:
        return hashlib.sha256(b"\0" + len(name).to_bytes(8) + name.encode() + content).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\1" + left + right).digest()

    a, b, c = (leaf(name, name.encode()) for name in "abc")
    assert merkle.tree({"a": b"a"}).root == a.hex()
    assert merkle.tree({"b": b"b", "a": b"a"}).root == node(a, b).hex()
    three = merkle.tree({"c": b"c", "a": b"a", "b": b"b"})
    assert three.root == node(node(a, b), c).hex()
    assert three.paths["c"] == [f"l{node(a, b).hex()}"]


@pytest.mark.parametrize("count", [*range(1, 18), 100])
def test_every_document_has_its_path_and_no_other(count: int) -> None:
    kept = {f"{n}.json": b"%d" % n for n in range(count)}
    found = merkle.tree(kept)
    for name, content in kept.items():
        assert merkle.root(name, content, found.paths[name]) == found.root
        assert merkle.root(f"{name}x", content, found.paths[name]) != found.root
        assert merkle.root(name, content + b" ", found.paths[name]) != found.root
    assert max(map(len, found.paths.values())) <= max(count - 1, 1).bit_length()


def test_a_name_and_its_content_are_not_one_text() -> None:
    assert merkle.root("ab", b"c", []) != merkle.root("a", b"bc", [])


def test_an_inner_node_is_no_document() -> None:
    found = merkle.tree({"a": b"a", "b": b"b"})
    with pytest.raises(ValueError, match="no path"):
        merkle.root("a", b"a", [found.paths["a"][0].upper()])


NO_NAME_IN_A_LEAF = Plant(
    name="leaf-without-its-name",
    module=merkle,
    old="+ named + content",
    new="+ content",
    mutation="",
)


def test_two_checks_refuse_the_document_of_another_credential(plan: Plan) -> None:
    (name, other), credential_id = names_of(plan)[:2], plan.credentials[0].id
    with NO_NAME_IN_A_LEAF.planted():
        made = compile_plan(plan.compiled, plan.shards, PLAN_FILE.parent)
        found = source(made, Kept({name: made.files[other]}))
        with pytest.raises(PlanDocumentRefusedError) as error:
            found.of(credential_id)
        assert error.value.where["code"] == "another-credential"


# The plan of a file


PLAN = ROOT / "lockstep.yaml"


def test_the_plan_of_a_file_is_compiled() -> None:
    assert hosted_plan(PLAN) == load_plan(PLAN).compiled


def test_a_file_that_is_not_valid_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lockstep.yaml").write_text("version: 1")
    with pytest.raises(InvalidPlanError):
        hosted_plan(tmp_path / "lockstep.yaml")


def test_without_a_parser_a_file_is_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a bundle, whose functions read a published plan."""
    monkeypatch.setitem(sys.modules, "lockstep.plan.file", None)
    with pytest.raises(InvalidPlanError):
        hosted_plan(PLAN)


def test_the_compiled_plan_is_its_own_compiled_form() -> None:
    plan = load_plan(PLAN).compiled
    assert plan.compiled is plan
    assert plan.credential("multi-cloud/ledger_user") == plan.credentials[1]
    assert plan.credential("multi-cloud/other") is None
    assert plan.region_of("lockstep/admin/orders") == plan.secrets_region == "eu-central-1"
    arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-abc-AbCdEf"
    assert plan.region_of(arn) == "eu-west-1"
