"""Processes: the streams and ends of the command, and what steps load, late and by any thread."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.plan.file import load_plan
from lockstep.plan.published import compile_plan
from lockstep.runtime.wiring import PLAN_VARIABLE
from tests.support.programs import ran
from tests.support.published import from_folder, write_published

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
    done = shell("$L plan sql $P | true; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == (f"{BROKEN_PIPE}\n", "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$L plan sql $P >&-", 0),
        ("$L status $P >&- 2>&- <&-", 3),
        ("$L import multi-cloud/app_user $P <&-", 2),
        ("$L status $P --json 2>/dev/full", 3),
        ("$L plan sql $P >/dev/full", 3),
        ("$L plan sql $P >/dev/full 2>/dev/full", 3),
    ],
)
def test_where_nothing_can_be_told_the_exit_code_stays(line: str, code: int) -> None:
    """Streams are closed, or on a full disk; that of standard output is told."""
    done = shell(f"({line}); echo $?")
    assert done.stdout.splitlines()[-1] == str(code)
    assert ("FileRefusedError: " in done.stderr) is line.endswith("sql $P >/dev/full")


def test_a_login_that_is_no_text() -> None:
    """Nor in a locale that is not UTF-8; and a name of any characters is told."""
    line = r"printf 'app\nsecret\xff\n' | $L import multi-cloud/app_user $P; echo $?"
    done = shell(line, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", COLUMNS="0")
    assert (done.stdout, "that is not a login" in done.stderr) == ("2\n", True)
    shown = shell("$L status ä€\U0001f511 $P", PYTHONIOENCODING="ascii", COLUMNS="1", PYTHONWARNINGS="error")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "the plan has no credential" in shown.stderr


def test_a_watch_goes_on_after_an_error_until_it_is_interrupted() -> None:
    # What a shell starts in the background ignores interrupts, and so does what that starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words = [sys.executable, "-m", "lockstep", "status", "--watch", *PLAN]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as watching:  # noqa: S603 - our own interpreter
        assert watching.stderr
        assert watching.stderr.readline().startswith("AwsCredentialsMissingError: ")
        assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=300) == 130
        assert "Traceback" not in watching.stderr.read()


# What is imported and made late: by the step that uses it

STEPS = ("generate", "apply_db", "update_secrets", "audit")


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan as functions read it."""
    found = load_plan(ROOT / "lockstep.yaml")
    published = compile_plan(found.compiled, found.shards, ROOT)
    monkeypatch.setenv(PLAN_VARIABLE, write_published(published, tmp_path))
    return tmp_path


def _loaded(program: str, folder: Path) -> set[str]:
    """The packages and modules that a new process has after a program."""
    program = f"{from_folder(folder)}\n{program}; import sys; print(*sys.modules)"
    done = ran([sys.executable, "-c", program], cwd=ROOT, check=True)
    loaded = set(done.stdout.split())
    ours = (name for name in loaded if name.startswith(("lockstep", "oci_fn", "functions")))
    # Nothing where no event is sent, and nothing of what only `lockstep doctor` asks for.
    assert not [
        name for name in ours if any(word in name for word in ("events", "telling", "doctor", "look"))
    ]
    return loaded


OF_ADAPTERS = {"botocore", "oci", "cryptography", "pymysql", "pg8000", "lockstep.databases.base"}
"""What only the step that uses it may load."""
OF_PEOPLE = {
    *("typer", "rich", "boto3", "lockstep.cli", "lockstep.operate.report"),
    *("lockstep.audit.verify", "lockstep.client"),
}
"""What no step uses."""
OF_PLANS = {"pydantic", "ruamel.yaml", "durationpy", "lockstep.plan.model", "lockstep.operate.login_import"}
"""What reads and changes a plan file."""


HOSTED = {
    **{
        step: f"import functions.{step}.handler; from functions.face import hosted_ports; "
        f"hosted_ports('aws/{step}', 'multi-cloud/app_user')"
        for step in STEPS
    },
    "oci": "import oci_fn.func as f; f.hosted_runner(f.OCI_RUNNER).ports('multi-cloud/app_user')",
}


@pytest.mark.parametrize("step", HOSTED)
def test_a_step_has_its_ports_before_it_loads_an_adapter(step: str, folder: Path) -> None:
    loaded = _loaded(HOSTED[step], folder)
    assert not loaded & (OF_ADAPTERS | OF_PEOPLE | OF_PLANS)


def test_threads_of_a_new_process_may_import_what_is_of_oci_in_any_order() -> None:
    """The SDK imports itself in a circle: who begins with a part of it, while another begins with all, gets a half."""
    program = """
import threading
from importlib import import_module

names = "clients vault object_storage kms functions notifications reads"
begin, broken = threading.Barrier(len(names.split())), []

def load(name):
    begin.wait()
    try:
        import_module(f"lockstep.oci.{name}")
    except ImportError as error:
        broken.append(f"{name}: {error}")

threads = [threading.Thread(target=load, args=(name,)) for name in names.split()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("; ".join(broken))
"""
    for _ in range(2):
        assert ran([sys.executable, "-c", program], cwd=ROOT, check=True).stdout.strip() == ""
