"""Who uses which generation: what processes say of themselves, and how little of it is believed."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lockstep.cli.usage import usage_lines
from lockstep.model import LockRecord
from lockstep.usage import (
    LONGEST_SILENCE,
    MAX_BYTES,
    Found,
    Usage,
    forget_ended,
    here,
    in_directory,
    usage_at,
)

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
ID = "multi-cloud/app_user"


def usage(generation: int = 40, **more: Any) -> Usage:  # noqa: ANN401 - any field
    host, namespace = here()
    known: dict[str, Any] = {
        "credential": ID,
        "generation": generation,
        "name": "shop",
        "host": host,
        "pid": os.getpid(),
        "namespace": namespace,
        "since": NOW - timedelta(minutes=20),
        "at": NOW - timedelta(seconds=150),
        **more,
    }
    return Usage(**known)


def write(directory: Path, of: Usage, *, name: str = "one.json") -> Path:
    file = directory / name
    file.write_text(json.dumps(of.document()))
    return file


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = usage(oldest_connection=39)
    write(tmp_path, written)
    found = usage_at([str(tmp_path)], now=NOW)
    assert (found.usages, found.problems) == ((written,), {})


def test_a_line_tells_who_which_and_when() -> None:
    ahead = usage(41, name="ahead", at=NOW + timedelta(minutes=5))
    found = Found(usages=(usage(oldest_connection=39), ahead), problems={})
    record = LockRecord(credential_id=ID, fence=1, current_generation=41)
    pid, host = os.getpid(), here()[0]
    assert list(usage_lines(found, record, NOW)) == [
        ("  usage: 1 of 2 behind generation 41", True),
        (f"    shop[{pid}] at {host}: generation 40, connections of 39, 2 minutes ago", True),
        (f"    ahead[{pid}] at {host}: generation 41, 0 seconds ago", False),
    ]


def test_who_holds_an_older_generation() -> None:
    mine = [usage(41, name="a"), usage(40, name="b"), usage(41, name="c", oldest_connection=39)]
    documents = [*mine, usage(1, credential="other/app_user")]
    found = Found(usages=tuple(documents), problems={})
    assert [u.name for u in found.below(ID, 41)] == ["c", "b"]
    assert [u.name for u in found.of(ID)] == ["c", "b", "a"]
    assert found.below(ID, 39) == []


def test_a_process_that_has_ended_uses_nothing(tmp_path: Path, ended: int) -> None:
    write(tmp_path, usage(pid=ended))
    alive = write(tmp_path, usage(), name="two.json")
    assert [u.pid for u in usage_at([str(tmp_path)], now=NOW).usages] == [os.getpid()]
    forget_ended(tmp_path, now=NOW)
    assert list(tmp_path.iterdir()) == [alive]


@pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"namespace": "pid:?1?"}])
def test_of_another_machine_or_container_only_a_long_silence_tells(
    tmp_path: Path, ended: int, elsewhere: dict[str, Any]
) -> None:
    write(tmp_path, usage(pid=ended, at=NOW - LONGEST_SILENCE, **elsewhere))
    assert len(usage_at([str(tmp_path)], now=NOW).usages) == 1
    assert usage_at([str(tmp_path)], now=NOW + timedelta(seconds=1)).usages == ()


def _garbage(directory: Path) -> None:
    good = usage().document()
    (directory / "text.json").write_text("not JSON")
    (directory / "bytes.json").write_bytes(b"\xff\xfe")
    (directory / "nested.json").write_text("[" * MAX_BYTES)
    (directory / "long.json").write_text(json.dumps(good) + " " * MAX_BYTES + "x")
    (directory / "folder.json").mkdir()
    os.mkfifo(directory / "pipe.json")
    (directory / "link.json").symlink_to("/etc/passwd")
    (directory / "unreadable.json").write_text(json.dumps(good))
    (directory / "unreadable.json").chmod(0)
    (directory / "other.txt").write_text(json.dumps(good))
    for name, value in {
        "format": 2,
        "generation": -1,
        "pid": "1",
        "name": None,
        "host": ["a"],
        "since": "yesterday",
        "at": 7,
        "oldest_connection": True,
        "credential": {},
    }.items():
        (directory / f"{name}.json").write_text(json.dumps({**good, name: value}))
        (directory / f"no-{name}.json").write_text(json.dumps({k: v for k, v in good.items() if k != name}))
    for i, text in enumerate(("[]", '"x"', "null", "7")):
        (directory / f"{i}.json").write_text(text)


def test_what_is_none_of_ours_is_passed_over(tmp_path: Path) -> None:
    _garbage(tmp_path)
    found = {u.name for u in in_directory(tmp_path)}
    assert found <= {"shop"}  # Root may read what nobody may.
    assert usage_at([str(tmp_path)], now=NOW).problems == {}


def test_a_forged_name_controls_no_terminal(tmp_path: Path) -> None:
    write(tmp_path, usage(name="\x1b[2Jshop\n[red]" + "x" * 200))
    [found] = in_directory(tmp_path)
    assert found.name.startswith("??2Jshop??red?xxx")
    assert len(found.name) == 100


@pytest.mark.parametrize(
    "place", ["/not/there", "http://127.0.0.1:1", "https://example.com", "http:///x", "ftp://a"]
)
def test_a_place_that_does_not_answer_is_named(place: str) -> None:
    found = usage_at([place], now=NOW)
    assert found.usages == ()
    assert list(found.problems) == [place]


def test_a_directory_that_may_not_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    found = usage_at([str(tmp_path)], now=NOW)
    assert "Permission denied" in str(found.problems[str(tmp_path)])


def test_nothing_is_imported_that_an_application_need_not_have() -> None:
    program = "import sys, lockstep.usage; print('pydantic' in sys.modules, 'typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - our own program
    assert done.stdout.split() == ["False", "False"]
