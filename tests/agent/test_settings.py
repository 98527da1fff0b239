"""The settings: every mistake is told, with its place and without what the file says."""

import grp
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdk.artefacts import PIPX
from lockstep.agent.__main__ import main
from lockstep.agent.serve import TokenFile, check_token, token_of
from lockstep.agent.settings import Settings, load_settings
from lockstep.plan.file import PlanProblemsError
from lockstep.protocol.errors import EnvironmentalError
from tests.agent.process import settings_file
from tests.contract.test_client_fork import in_child

ROOT = Path(__file__).resolve().parents[2]
PLAN = {"version": 1, "plan": str(ROOT / "lockstep.yaml"), "credentials": ["multi-cloud/app_user"]}


def _load(folder: Path, document: Mapping[str, Any]) -> Settings:
    return load_settings(settings_file(folder, document))


def test_a_plan_says_stores_names_and_overlaps_and_a_file_has_its_login_and_group(tmp_path: Path) -> None:
    one, other = "multi-cloud/ledger_user", "multi-cloud/app_user"
    own = {"group": grp.getgrgid(os.getegid()).gr_name, "credential": one}
    files = [{**FILE, **own}, {"path": "/run/b", "template": "/t", "credential": other}]
    found = _load(tmp_path, {**PLAN, "credentials": [], "files": files})
    first, second = found.files
    assert (found.credential_of(first).id, found.credential_of(second).id) == (one, other)
    assert (first.group, second.group, first.mode) == (os.getegid(), -1, 0o600)
    assert second.template == Path("/t")
    for mode in ("0640", 640, "0o640"):
        found = _load(tmp_path, {**PLAN, "nearest": "oci", "files": [{**FILE, "mode": mode}]})
        assert found.files[0].mode == 0o640
    assert ([c.id for c in found.served], found.how_often, found.port) == (
        [other],
        timedelta(minutes=1),
        2773,
    )
    assert [store.name for store in found.stores_in_turn] == ["oci", "aws"]
    assert [store.name for store in _load(tmp_path, PLAN).stores_in_turn] == ["aws", "oci"]


FILE = {"path": "/run/a", "format": "pgpass"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"colour": 1}, "colour: unknown key"),
        ({"nearest": "azure"}, "nearest: there is no store azure, only aws, oci"),
        ({"credentials": ["x"]}, "credentials: the plan has no x, only multi-cloud/app_user"),
        ({"files": [{**FILE, "database": "ledger"}]}, "app_user has no database ledger, only orders"),
        ({"refresh": "20m"}, "refresh: must be at most half of the shortest overlap"),
        ({"refresh": "0s"}, "refresh: must be at least 1s"),
        ({"port": 65536}, "port: "),
        ({"files": [{"path": "/run/a"}]}, "files[0]: give it a format"),
        ({"files": [{**FILE, "template": "/a"}]}, "files[0]: give it a format"),
        ({"files": [{**FILE, "path": "a"}]}, "files[0]: path: must be absolute"),
        ({"files": [{**FILE, "mode": "0644"}]}, "everybody could read the password"),
        ({"files": [{**FILE, "mode": "rw"}]}, "files[0].mode: write a mode as four octal digits"),
        ({"files": [{**FILE, "group": "no-such"}]}, "files[0].group: this machine has no group no-such"),
        ({"files": [{**FILE, "group": {"a": "pa55word"}}]}, "files[0].group: must be a name"),
        ({"files": [{**FILE, "command": []}]}, "files[0].command"),
        ({"files": [{**FILE, "credential": "x"}]}, "files[0].credential: there is no x"),
        ({"files": [FILE, FILE]}, "files[1].path: /run/a is written"),
        ({"files": [FILE], "token_file": "/run/a"}, "files[0].path: /run/a is written"),
        ({"plan": "/no/such/plan.yaml"}, "plan: "),
        ({"plan": None}, "plan: must be the path of a plan file"),
        ({"credentials": [], "files": [FILE]}, "files[0].credential: needed, there are several"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, more: Mapping[str, Any], told: str) -> None:
    with pytest.raises(PlanProblemsError) as caught:
        _load(tmp_path, {**PLAN, **more})
    assert any(told in problem for problem in caught.value.lines), caught.value.lines


def _told(capfd: pytest.CaptureFixture[str], file: Path, *more: str) -> tuple[int, str]:
    """The status and the standard error of an agent of its own."""
    status = in_child(lambda: main(["--config", str(file), *more]))
    told = capfd.readouterr().err
    assert "Traceback" not in told
    return status, told


def test_a_file_that_is_no_settings_is_told_in_a_line_and_status_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "agent.yaml"
    for text in ("\0", "a: &a [*a]", "version: 1\nplan: {a: pa55word}"):
        file.write_text(text)
        status, told = _told(capfd, file, "--check")
        assert (status, str(file) in told, "pa55word" in told) == (2, True, False)


def test_a_token_is_made_once_in_a_folder_for_its_owner_and_group(tmp_path: Path) -> None:
    file = tmp_path / "none" / "token"
    check_token(file)
    assert list(tmp_path.iterdir()) == []
    token = token_of(file)
    assert len(token.reveal()) >= 43
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.parent.stat().st_mode & 0o007 == 0
    assert token_of(file).reveal() == token.reveal()
    for text, mode in ((" \n", 0o640), ("abc", 0o644), ("ü", 0o640)):
        file.write_text(text)
        file.chmod(mode)
        with pytest.raises(EnvironmentalError):
            token_of(file)


def test_a_token_file_that_is_replaced_counts_at_once(tmp_path: Path) -> None:
    file, new = tmp_path / "token", tmp_path / "new"
    file.write_text("first")
    file.chmod(0o640)
    token = TokenFile(file)
    assert token.matches("first")
    for text, mode, counts in (
        ("second", 0o640, "second"),
        ("", 0o640, "second"),
        ("everybody's", 0o644, "second"),
        ("third", 0o640, "third"),
    ):
        new.write_text(text)
        new.chmod(mode)
        new.rename(file)
        known = ("first", "second", "everybody's", "third", "")
        assert [text for text in known if token.matches(text)] == [counts]
    file.unlink()
    assert token.matches("third")
    assert not file.exists()


def test_a_token_that_cannot_be_made_is_told_and_check_finds_a_template_and_a_place_that_are_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "template"
    template.write_text("{{ nobody }}")
    file = settings_file(tmp_path, {**PLAN, "token_file": f"{template}/token"})
    for more in ((), ("--check",)):
        status, told = _told(capfd, file, *more)
        assert (status, "sudo install -d" in told) == (2, True)
    assert _told(capfd, file, "--check", "--once") == (0, "")
    for wrong in (
        {"path": f"{tmp_path}/out", "template": str(template)},
        {"path": f"{template}/out", "format": "json"},
    ):
        file = settings_file(tmp_path, {**PLAN, "token_file": f"{tmp_path}/token", "files": [wrong]})
        assert _told(capfd, file, "--check")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.yaml", "template"]


def test_without_the_sdk_of_oracle_it_says_what_to_install(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [name for name in sys.modules if name.startswith("lockstep.oci")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "oci", None)
    status, told = _told(capfd, settings_file(tmp_path, {**PLAN, "token_file": f"{tmp_path}/token"}))
    assert (status, PIPX in told) == (3, True), told
