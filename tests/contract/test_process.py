"""The command as a process: its streams, its ends, and what it needs to be installed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import ran

ROOT = Path(__file__).parents[2]
PLAN = ["-p", str(ROOT / "lockstep.yaml")]
BROKEN_PIPE = 141


def environment(**more: str) -> dict[str, str]:
    """Nothing is set but what a process needs, and `more`."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true", **more}


def shell(line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which `$L` is the command and `$P` its plan; it never shows a traceback."""
    done = ran(
        ["bash", "-c", line],
        env=environment(L=f"{sys.executable} -m lockstep", P=" ".join(PLAN), **more),
        stdin=subprocess.DEVNULL,
        errors="replace",
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done


def test_a_reader_that_goes_away_ends_it_silently() -> None:
    for words in ("--help", "plan sql $P"):
        done = shell(f"$L {words} | true; echo ${{PIPESTATUS[0]}}")
        assert (done.stdout, done.stderr) == (f"{BROKEN_PIPE}\n", ""), words
    shown = shell("$L -h")
    assert shown.stdout.startswith("Usage: lockstep ")
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$L plan sql $P >&-", 0),
        ("$L plan sql $P 2>&-", 0),
        ("$L status $P >&- 2>&- <&-", 3),
        ("$L import multi-cloud/app_user $P <&-", 2),
        ("$L status $P --json 2>/dev/full", 3),
        ("$L status none $P 2>/dev/full", 2),
        ("$L plan sql $P >/dev/full 2>/dev/full", 3),
    ],
)
def test_where_nothing_can_be_told_the_exit_code_stays(line: str, code: int) -> None:
    """Streams are closed, or on a full disk."""
    assert shell(f"({line}); echo $?").stdout.splitlines()[-1] == str(code)


def test_a_full_disk_is_told() -> None:
    done = shell("$L plan sql $P >/dev/full; echo $?")
    assert done.stdout == "3\n"
    assert "FileRefusedError: " in done.stderr
    assert "standard output" in done.stderr


@pytest.mark.parametrize(
    "more",
    [
        {"PYTHONIOENCODING": "ascii", "COLUMNS": "1", "NO_COLOR": "1", "PYTHONWARNINGS": "error"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "COLUMNS": "0", "TZ": "garbage/zone"},
        {"LANG": "en_US.ISO-8859-1", "COLUMNS": "garbage", "LINES": "x", "TERM": "garbage"},
        {"FORCE_COLOR": "1", "COLUMNS": "7"},
    ],
    ids=str,
)
def test_odd_surroundings(more: dict[str, str], tmp_path: Path) -> None:
    assert shell("$L -h", HOME=str(tmp_path), **more).returncode == 0
    shown = shell("$L status ä€\U0001f511 $P", HOME=str(tmp_path), **more)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "the plan has no credential" in shown.stderr
    assert shell("$L status $P", HOME=str(tmp_path), **more).returncode == 3


@pytest.mark.parametrize(
    ("locale", "lines"),
    [("C", r"app\nsecret\xff\n"), ("C.UTF-8", r"{\"username\": \"a\", \"password\": \"\xff\"}")],
)
def test_a_login_that_is_no_text(locale: str, lines: str) -> None:
    done = shell(f"printf '{lines}' | $L import multi-cloud/app_user $P; echo $?", LC_ALL=locale)
    assert (done.stdout, "that is not a login" in done.stderr) == ("2\n", True)


def test_a_watch_goes_on_after_an_error_until_it_is_interrupted() -> None:
    words = [sys.executable, "-m", "lockstep", "status", "--watch", *PLAN]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as watching:  # noqa: S603 - our own interpreter
        assert watching.stderr
        assert watching.stderr.readline().startswith("AwsCredentialsMissingError: ")
        assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=300) == 130
        assert "Traceback" not in watching.stderr.read()
