"""The command as a process: its streams, its ends, and what it needs to be installed."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAN = ["-p", str(ROOT / "lockstep.yaml")]
BROKEN_PIPE = 141


def environment(**more: str) -> dict[str, str]:
    """Nothing is set but what a process needs, and `more`."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true", **more}


def run(*words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program; it never shows a traceback."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "lockstep", *words],
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done


def shell(line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which `$L` is the command."""
    done = subprocess.run(  # noqa: S603 - lines of these tests
        ["bash", "-c", line],  # noqa: S607 - the bash on the path
        env=environment(L=f"{sys.executable} -m lockstep", P=" ".join(PLAN), **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_module_is_the_command(flag: str) -> None:
    shown = run(flag)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("Usage: lockstep ")


@pytest.mark.parametrize("words", ["--help", "plan sql $P", "lock show $P --help", "status -h"])
def test_a_reader_that_goes_away_ends_it_silently(words: str) -> None:
    done = shell(f"$L {words} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == (f"{BROKEN_PIPE}\n", "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$L plan sql $P >&-", 0),
        ("$L plan sql $P 2>&-", 0),
        ("$L plan sql $P <&-", 0),
        ("$L status $P >&- 2>&- <&-", 3),
        ("$L import multi-cloud/app_user $P <&-", 2),
    ],
)
def test_closed_streams_change_nothing(line: str, code: int) -> None:
    done = shell(f"({line}); echo $?")
    assert done.stdout.splitlines()[-1] == str(code)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_told() -> None:
    done = shell("$L plan sql $P >/dev/full; echo $?")
    assert done.stdout == "3\n"
    assert "FileRefusedError: " in done.stderr
    assert "standard output" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$L status $P 2>/dev/full", 3),
        ("$L status $P --json 2>/dev/full", 3),
        ("$L status none $P 2>/dev/full", 2),
        ("$L plan sql $P >/dev/full 2>/dev/full", 3),
        ("$L status --nothing $P 2>/dev/full", 2),
        ("$L plan sql $P 2>/dev/full", 0),
    ],
)
def test_where_nothing_can_be_told_the_exit_code_stays(line: str, code: int) -> None:
    assert shell(f"({line}); echo $?").stdout.splitlines()[-1] == str(code)


@pytest.mark.parametrize(
    "more",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LANG": "en_US.ISO-8859-1"},
        {"COLUMNS": "1"},
        {"COLUMNS": "0"},
        {"COLUMNS": "garbage", "LINES": "x"},
        {"TERM": "garbage"},
        {"NO_COLOR": "1"},
        {"FORCE_COLOR": "1", "COLUMNS": "7"},
        {"TZ": "garbage/zone"},
        {"PYTHONWARNINGS": "error"},
    ],
    ids=str,
)
def test_odd_surroundings(more: dict[str, str], tmp_path: Path) -> None:
    env = environment(HOME=str(tmp_path), **more)
    assert run("-h", env=env).returncode == 0
    shown = run("status", "ä€\U0001f511", *PLAN, env=env)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "the plan has no credential" in shown.stderr
    assert run("status", *PLAN, env=env).returncode == 3


@pytest.mark.parametrize(
    "lines", [r"app\nsecret\xff\n", r"\xff", r"{\"username\": \"a\", \"password\": \"\xff\"}"]
)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_login_that_is_no_text(lines: str, locale: str) -> None:
    done = shell(f"printf '{lines}' | $L import multi-cloud/app_user $P; echo $?", LC_ALL=locale)
    assert (done.stdout, "that is no login" in done.stderr) == ("2\n", True)


def test_without_an_extra_a_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['typer'] = None; sys.argv[1:] = ['status']; "
        "from lockstep.__main__ import main; main()"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "pip install 'lockstep-rotation[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_watch_goes_on_after_an_error_until_it_is_interrupted() -> None:
    words = [sys.executable, "-m", "lockstep", "status", "--watch", *PLAN]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as watching:  # noqa: S603 - our own interpreter
        assert watching.stderr
        assert watching.stderr.readline().startswith("AwsCredentialsMissingError: ")
        assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=300) == 130
        assert "Traceback" not in watching.stderr.read()
