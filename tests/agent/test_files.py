"""The files that the agent writes: right for the programs that read them, whole at every moment."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lockstep.agent.files import FORMATS, Login, LoginFormError, formatted, login_of, rendered, replace_file
from lockstep.protocol.model import SecretStr
from tests.agent.harness import NEEDLE, app_user, blob
from tests.support.programs import ran

PASSWORD = f"{NEEDLE}-1"
NESTED = '{"databases":' * 20_000


USER, BLOB = SecretStr(app_user(1)), SecretStr(blob(1))


def _login(database: str | None = None) -> Login:
    return login_of(USER, BLOB, database)


HARD = [
    *(PASSWORD, "'", "''", "it's", '"', 'a"#b', "a'\"#b", '"#"'),
    *("\\", "\\n", "a\\", '\\"#', "$HOME", "`id`", ";a", "a b#c "),
]
"""Passwords that a person may have given; the plan's alphabet may have each of their characters, but a space."""


def _with(password: str) -> Login:
    return replace(_login(), fields={**_login().fields, "password": password})


def test_the_clients_of_mysql_read_every_password_from_the_option_file_as_it_is(tmp_path: Path) -> None:
    program = shutil.which("my_print_defaults")
    if program is None:
        pytest.skip(
            "my_print_defaults is missing; it comes with the clients of MariaDB, as `make test` installs them"
        )
    file = tmp_path / "my.cnf"
    for password in HARD:
        file.write_text(formatted(_with(password), "my-cnf"))
        done = ran([program, f"--defaults-file={file}", "client"])
        assert f"--password={password}" in done.stdout.splitlines()


def test_each_other_form_is_as_its_reader_takes_it() -> None:
    assert json.loads(formatted(_login(), "json")) == json.loads(app_user(1))
    line = formatted(_login("ledger"), "pgpass").removesuffix("\n")
    fields = [re.sub(r"\\(.)", r"\1", field) for field in re.findall(r"((?:\\.|[^:\\])*)(?::|$)", line)[:5]]
    assert fields == ["pg.example.com", "5432", "*", "app", PASSWORD]
    template = "{{ engine }} {{ username }}@{{ host }}:{{ port }}/{{ dbname }} {{ generation }}\n"
    assert rendered(_login("ledger"), template) == "postgresql app@pg.example.com:5432/ledger 1\n"
    assert rendered(_login(), "{{ password }}") == PASSWORD


@pytest.mark.parametrize(
    "refused",
    [
        *(
            partial(rendered, _login(), template)
            for template in ("{{ unknown }}", "{{ password | no_filter }}", "{{ password.x.y }}")
        ),
        *(
            partial(login_of, SecretStr(text), None, None)
            for text in ("not json", '{"placeholder": true}', "[1]", NESTED)
        ),
        partial(login_of, USER, SecretStr(NESTED), "ledger"),
        partial(login_of, USER, None, "ledger"),
        partial(login_of, USER, BLOB, "unknown"),
    ],
)
def test_a_wrong_template_or_secret_is_refused_without_its_text(refused: Callable[[], object]) -> None:
    with pytest.raises(LoginFormError) as caught:
        refused()
    assert NEEDLE not in str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_a_field_that_could_begin_another_line_is_refused(form: str) -> None:
    for character in ("\n", "\r", "\0", "\x1b"):
        with pytest.raises(LoginFormError, match="control-character"):
            formatted(_with(f"a{character}host=evil.example.com"), form)


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "secret", tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    file.symlink_to(elsewhere)
    replace_file(file, b"a", mode=0o600)
    assert (elsewhere.read_text(), file.is_symlink(), file.read_text()) == ("untouched", False, "a")


def test_nobody_else_can_read_it_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode is set before the file is given away: who is no owner any more could not change it without rights."""
    seen: list[int] = []
    fchown = os.fchown

    def watched(descriptor: int, uid: int, gid: int) -> None:
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        fchown(descriptor, uid, gid)

    monkeypatch.setattr(os, "fchown", watched)
    replace_file(tmp_path / "secret", b"a", mode=0o640)
    assert seen == [0o640]


@pytest.mark.parametrize("step", ["fchown", "fsync"])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "secret"
    replace_file(file, b"old", mode=0o600)

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left on device"):
        replace_file(file, b"new", mode=0o600)
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]
    assert file.read_text() == "old"
