"""A published plan: its documents say what the plan says, and each proves that it is of the plan that was deployed."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import pytest
from msgspec import structs

from lockstep.plan import published
from lockstep.plan.compiled import AccessKey, hosted_plan
from lockstep.plan.file import load_plan
from lockstep.plan.published import (
    CA_FOLDER,
    INDEX,
    PlanInBucket,
    PublishedPlan,
    WholePlan,
    compile_plan,
    credential_name,
    place_of,
)
from lockstep.protocol import errors
from lockstep.protocol.model import Tls
from lockstep.protocol.schedule import run_key

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "lockstep.yaml"
PLAN_FILE = ROOT / "tests/infrastructure/plan/lockstep.yaml"  # With CA files.
FOLDER = PLAN_FILE.parent
PLAN = load_plan(PLAN_FILE)
MADE = compile_plan(PLAN.compiled, PLAN.shards, FOLDER)
FIRST, SECOND, *_ = IDS = [credential.id for credential in PLAN.credentials]
NAME, OTHER_NAME, *_ = NAMES = [credential_name(run_key(key)) for key in IDS]
OLDER = compile_plan(
    structs.replace(PLAN.compiled, to_aws=AccessKey(secret="lockstep/another")), PLAN.shards, FOLDER
)


class Kept:
    """Files of documents; counts what is read."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: list[str] = []

    def read(self, name: str, limit: int) -> bytes | None:
        self.asked.append(name)
        file = self.files.get(name)
        return None if file is None else file[: limit + 1]


def source(kept: Kept, *, digest: str = MADE.digest) -> PublishedPlan:
    return PublishedPlan(digest, kept, kept=256)


@pytest.fixture(autouse=True)
def _ca_files_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a function has them they are as in the plan of this machine."""
    monkeypatch.setattr(published, "CA_FOLDER", FOLDER)


# What they say


def test_the_documents_say_what_the_plan_says_and_are_read_once() -> None:
    kept = Kept(MADE.files)
    found = source(kept)
    for credential in PLAN.credentials:
        assert found.of(credential.id) == structs.replace(PLAN.compiled, credentials=(credential,))
    assert found.plan == structs.replace(PLAN.compiled, credentials=())
    assert kept.asked == NAMES
    assert found.index == WholePlan(PLAN.compiled).index
    assert [c.schedule for c in found.index.credentials] == [c.schedule for c in PLAN.credentials]
    assert found.plan == found.index.plan
    assert kept.asked == [*NAMES, INDEX]
    for shard in PLAN.shards:  # A list for the map, which names no host.
        listed = json.loads(MADE.files[f"shards/{shard.name}.json"])
        assert listed == [{"credential_id": i, "key": run_key(i)} for i in shard.credential_ids]
    few = Kept(MADE.files)
    one = PublishedPlan(MADE.digest, few, kept=1)
    for credential_id in (FIRST, FIRST, SECOND, FIRST):
        one.of(credential_id)
    assert few.asked == [NAME, OTHER_NAME, NAME]


def test_the_same_plan_has_the_same_digest_wherever_it_is_and_another_has_another(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "elsewhere")
    moved = load_plan(tmp_path / "elsewhere" / PLAN_FILE.name)
    again = compile_plan(moved.compiled, moved.shards, tmp_path / "elsewhere")
    assert (again.digest, again.files) == (MADE.digest, MADE.files)
    assert str(FOLDER).encode() not in b"".join(MADE.files.values())
    # What the plan digest of a credential leaves out counts, too.
    assert OLDER.digest != MADE.digest
    assert compile_plan(PLAN.compiled, PLAN.shards[:0], FOLDER).digest != MADE.digest


# What is refused


def _with(file: bytes, **more: object) -> bytes:
    return json.dumps({**json.loads(file), **more}).encode()


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a changed value": (lambda file: file.replace(b'"port":3306', b'"port":3307'), "not-of-this-plan"),
    "cut": (lambda file: file[:-40], "not-json"),
    "another shape": (lambda _: b"[]", "not-json"),
    "without a path": (lambda _: b'{"document":{}}', "not-json"),
    "another path": (lambda file: _with(file, path=["r" + "0" * 64]), "not-of-this-plan"),
    "a long path": (lambda file: _with(file, path=["r" + "0" * 64] * 65), "not-json"),
    "huge": (lambda file: file + b" " * published.MAX_DOCUMENT_BYTES, "too-large"),
    "of another credential": (lambda _: MADE.files[OTHER_NAME], "not-of-this-plan"),
    "of an older plan": (lambda _: OLDER.files[NAME], "not-of-this-plan"),
}


@pytest.mark.parametrize(("change", "code"), BAD.values(), ids=BAD)
def test_a_document_that_is_not_the_plans_is_refused_until_its_own_is_back(
    change: Callable[[bytes], bytes], code: str
) -> None:
    changed = change(MADE.files[NAME])
    assert changed != MADE.files[NAME]
    kept = Kept({**MADE.files, NAME: changed})
    found = source(kept)
    with pytest.raises(errors.PlanDocumentRefusedError) as error:
        found.of(FIRST)
    assert error.value.where == {"path": NAME, "code": code}
    assert "lockstep plan publish" in str(error.value)
    assert error.value.__cause__ is None
    kept.files[NAME] = MADE.files[NAME]
    assert found.of(FIRST).found(FIRST)


def test_an_index_of_another_plan_or_build_is_refused_and_what_is_not_there_is_missing() -> None:
    with pytest.raises(errors.PlanDocumentRefusedError):
        _ = source(Kept(OLDER.files)).index
    with pytest.raises(errors.PlanDocumentMissingError, match="lockstep plan publish"):
        source(Kept({})).of(FIRST)
    content = published.canonical({"format": "2", "plan": {}})
    newer = Kept({INDEX: published.enveloped(content, [])})
    with pytest.raises(errors.NewerFormatError):
        _ = source(newer, digest=published.root(INDEX, content, [])).index
    with pytest.raises(errors.InvalidRequestError):
        WholePlan(PLAN.compiled).of("multi-cloud/other")


def test_two_checks_refuse_the_document_of_another_credential() -> None:
    # A leaf without its name, which is the first check.
    with patch.object(published, "_leaf", lambda _name, content: hashlib.sha256(content).digest()):
        made = compile_plan(PLAN.compiled, PLAN.shards, FOLDER)
        found = source(Kept({NAME: made.files[OTHER_NAME]}), digest=made.digest)
        with pytest.raises(errors.PlanDocumentRefusedError, match="another-credential"):
            found.of(FIRST)


# Where it is


DIGEST = "0123456789abcdef" * 4
IN_S3 = PlanInBucket(bucket="acme-audit-plans", digest=DIGEST, region="eu-west-1")
IN_OCI = PlanInBucket(namespace="acmens", bucket="audit-plans", digest=DIGEST, region="eu-frankfurt-1")


def test_the_environment_says_where_the_plan_is() -> None:
    assert str(IN_S3) == f"s3://acme-audit-plans/plans/{DIGEST}?region=eu-west-1"
    assert str(IN_OCI) == f"oci://acmens/audit-plans/plans/{DIGEST}?region=eu-frankfurt-1"
    for place in (IN_S3, IN_OCI, Path("plan/lockstep.yaml")):
        assert place_of(str(place)) == place
    for text in (f"acme/{DIGEST}", f"acme/plans/{DIGEST}/../x", "acme/plans/abc"):
        for service in ("s3://", "oci://", "oci://ns/"):
            with pytest.raises(errors.InvalidPlanError):
                place_of(f"{service}{text}?region=eu-west-1")


# The tree


def test_the_tree_is_that_of_rfc_6962_with_names() -> None:
    def leaf(name: str, content: bytes) -> bytes:
        return hashlib.sha256(b"\0" + len(name).to_bytes(8) + name.encode() + content).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\1" + left + right).digest()

    a, b, c = (leaf(name, name.encode()) for name in "abc")
    assert published.tree({"a": b"a"}) == (a.hex(), {"a": []})
    root, paths = published.tree({"c": b"c", "a": b"a", "b": b"b"})
    assert root == node(node(a, b), c).hex()
    assert paths["c"] == [f"l{node(a, b).hex()}"]
    with pytest.raises(ValueError, match="no path"):
        published.root("a", b"a", [paths["a"][0].upper()])


def test_every_document_has_its_path_and_no_other() -> None:
    for count in (1, 2, 7, 100):
        kept = {f"{n}.json": b"%d" % n for n in range(count)}
        root, paths = published.tree(kept)
        for name, content in kept.items():
            assert published.root(name, content, paths[name]) == root
            assert published.root(f"{name}x", content, paths[name]) != root
            assert published.root(name, content + b" ", paths[name]) != root


def test_a_plan_file_is_compiled_and_refused_in_a_bundle_which_has_no_parser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hosted_plan(SHIPPED) == load_plan(SHIPPED).compiled
    monkeypatch.setitem(sys.modules, "lockstep.plan.file", None)
    with pytest.raises(errors.InvalidPlanError):
        hosted_plan(SHIPPED)


def test_a_function_has_the_ca_files_of_its_plan_in_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "CA_FOLDER", CA_FOLDER)
    (server, *_) = source(Kept(MADE.files)).of(FIRST).credentials[0].servers
    assert server.tls == Tls(ca_file=Path("plan/ca/example.pem"))
