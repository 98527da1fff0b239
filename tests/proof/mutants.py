"""Mutation testing of the core: which small changes of the product no test sees.

The mutants are those of mutmut's operators, a random sample of each room, fixed by its seed. First the tests run once,
and for each line is noted which of them execute it. Then each mutant runs in a process of its own, with the tests of
its line, until one fails. Results are in build/mutants/ by commit and seed: a second run goes on where the first ended.

    python -m tests.proof.mutants --seed 1 --minutes 60        prints the score by room, and what survived
"""

import argparse
import ast
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import groupby
from pathlib import Path

import coverage
import pytest
from libcst import Module
from mutmut.mutation.file_mutation import Mutation, create_mutations, deep_replace

ROOT = Path(__file__).parents[2]
CORE: Mapping[str, tuple[str, ...]] = {
    "decide": tuple(f"lockstep/protocol/{n}.py" for n in ("decide", "orders", "schedule")),
    "lock rule": ("lockstep/protocol/lock_rule.py", "lockstep/aws/dynamodb_lock.py"),
    "stores": tuple(f"lockstep/stores/{n}.py" for n in ("credential", "contents")),
    "ring": ("lockstep/oci/ring.py", "lockstep/protocol/ring.py"),
    "steps": (
        *("functions/generate/step.py", "functions/update_secrets/step.py", "functions/audit/step.py"),
        *(f"functions/apply_db/{n}.py" for n in ("step", "reached", "logins", "search", "replication")),
    ),
    "drivers": tuple(
        f"lockstep/databases/{n}.py"
        for n in ("base", "mysql", "mariadb", "mysql_family", "postgresql", "verifiers")
    ),
    "entries": tuple(f"lockstep/audit/{n}.py" for n in ("entry", "append", "chain")),
    "digests": ("lockstep/audit/digest.py", "lockstep/audit/confirmed.py"),
    "verification": ("lockstep/audit/verify.py",),
    "client": ("lockstep/client/cache.py",),
}
"""Files by room."""
TESTS = (
    "tests/unit",
    *(f"tests/contract/test_{n}.py" for n in ("store", "lock", "lock_rule", "audit_log")),
    *(f"tests/contract/test_{n}.py" for n in ("database", "database_servers")),
    *(f"tests/contract/test_{n}.py" for n in ("vault_ring", "wiring")),
    "tests/proof/test_tampering.py",
)
BLIND = ("weight", "architecture", "protocol_citations")
"""Tests of `tests/unit` that read the repository and execute nothing of the core."""
WARM = (
    *(
        "_pytest.assertion.rewrite",
        "hypothesis",
        "boto3",
        "moto",
        "msgspec",
        "pydantic",
        "ruamel.yaml",
        "typer",
    ),
    *("jinja2", "oci.vault", "oci.secrets", "oci.object_storage", "oci.key_management", "pymysql", "pg8000"),
)
"""Imported once, before the processes of the mutants are forked: whatever is not the project's."""
QUICK_SECONDS, SLOW_SECONDS, MOST_SECONDS, MOST_TESTS = 0.1, 8.0, 45.0, 600
"""A test that takes less is always tried, one that takes longer never, and no more than these for one mutant."""
PATIENCE, PATIENCE_SECONDS = 12, 60.0
"""A mutant's tests may take this many times as long as without it, and this much more."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change.

    Attributes:
        line: The first line that differs.
        source: The file with the change.
    """

    room: str
    file: str
    number: int
    line: int
    was: str
    now: str
    source: str


@dataclass(frozen=True)
class Executed:
    """Who executes what.

    Attributes:
        seconds: Of each test.
        lines: Tests by file and line.
    """

    seconds: Mapping[str, float]
    lines: Mapping[str, Mapping[str, Sequence[str]]]


def sample(each: int, seed: int) -> list[Mutant]:
    """So many mutants of each room; one whose change is in the spelling alone is left out."""
    chosen: list[Mutant] = []
    for room, files in CORE.items():
        pool = [(file, *found) for file in files for found in enumerate(_changes(file))]
        for file, number, change in random.Random(f"{seed}/{room}").sample(pool, min(each, len(pool))):  # noqa: S311 - a sample
            text, source = (ROOT / file).read_text(), change()
            old, new = text.splitlines(), source.splitlines()
            pairs = enumerate(zip(old, new, strict=False), 1)
            line = next((n for n, (was, now) in pairs if was != now), len(old))
            was, now = old[line - 1].strip(), new[min(line, len(new)) - 1].strip()
            if source != text:
                chosen.append(
                    Mutant(room=room, file=file, number=number, line=line, was=was, now=now, source=source)
                )
    random.Random(seed).shuffle(chosen)  # noqa: S311 - what was run when the time is over is a sample of every room
    return chosen


def _changes(file: str) -> Iterator[Callable[[], str]]:
    """What makes each mutant's source: it takes some time, and most are not chosen."""
    module, found, _, _ = create_mutations(file, (ROOT / file).read_text())
    return (partial(_source, module, change) for change in found if change.contained_by_top_level_function)


def _source(module: Module, change: Mutation) -> str:
    changed = deep_replace(module, change.original_node, change.mutated_node)
    assert isinstance(changed, Module)  # It is the module that was given.
    return changed.code


class _Mapper:
    """A plugin of pytest: notes seconds, failures, and the lines of each test."""

    def __init__(self) -> None:
        files = [str(ROOT / file) for files in CORE.values() for file in files]
        self.coverage = coverage.Coverage(data_file=None, include=files)
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)


def executed() -> Executed:
    """Run the tests once."""
    mapper = _Mapper()
    mapper.coverage.start()
    ignored = [f"--ignore=tests/unit/test_{name}.py" for name in BLIND]
    pytest.main(["-q", "-p", "no:cacheprovider", "-m", "not proof", *ignored, *TESTS], plugins=[mapper])
    mapper.coverage.stop()
    data = mapper.coverage.get_data()
    quick = {test for test, seconds in mapper.seconds.items() if seconds < SLOW_SECONDS} - mapper.failed
    return Executed(
        dict(mapper.seconds),
        {
            str(Path(file).relative_to(ROOT)): {
                str(line): sorted(quick.intersection(tests))
                for line, tests in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        },
    )


def tests_of(mutant: Mutant, by: Executed) -> list[str]:
    """The tests that execute the changed line: the quick ones, then a few of each file before more of any."""
    lines = by.lines.get(mutant.file, {})
    nodes = [n for n in ast.walk(ast.parse((ROOT / mutant.file).read_text())) if isinstance(n, ast.stmt)]
    around = [n for n in nodes if n.lineno <= mutant.line <= (n.end_lineno or 0)]
    spans = sorted(((n.end_lineno or 0) - n.lineno, n.lineno) for n in around)
    found = set(lines.get(str(mutant.line), ()))
    for (
        length,
        first,
    ) in spans:  # A statement is noted at its first line, a default where its function is called.
        found = found or {t for n in range(first, first + length + 1) for t in lines.get(str(n), ())}
    files: dict[str, list[str]] = defaultdict(list)
    for test in sorted(found, key=lambda test: (by.seconds[test], test)):
        files["" if by.seconds[test] < QUICK_SECONDS else test.partition("::")[0]].append(test)
    chosen = files.pop("", [])
    while files and len(chosen) < MOST_TESTS and sum(by.seconds[t] for t in chosen) < MOST_SECONDS:
        chosen += [tests.pop(0) for tests in files.values()]
        files = {file: tests for file, tests in files.items() if tests}
    return sorted(chosen, key=lambda test: (not test.startswith("tests/unit"), test.partition("::")[0]))


class _Changed(SourceFileLoader):
    """Imports a mutant instead of its file."""

    def __init__(self, mutant: Mutant) -> None:
        name = mutant.file.removesuffix(".py").replace("/", ".")
        super().__init__(name, str(ROOT / mutant.file))
        self._source = mutant.source.encode()

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """As a finder of modules: itself for the one that is changed."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_data(self, path: str) -> bytes:
        if path != self.path:
            raise OSError(path)  # No bytecode is read,
        return self._source

    def set_data(self, *_: object, **_more: object) -> None:
        """And none is written."""


@dataclass(frozen=True)
class _Running:
    mutant: Mutant
    until: float


class Hunt:
    """Runs mutants in processes, some at a time, and notes what became of each.

    Args:
        results: A line of JSON for each mutant that was run.
    """

    def __init__(self, by: Executed, results: Path, jobs: int) -> None:
        self._by = by
        self._results = results
        self._jobs = jobs
        self._running: dict[int, _Running] = {}

    def run(self, mutants: Sequence[Mutant], until: float) -> None:
        """Run what is not noted yet; none is begun after `until`, in seconds of the monotonic clock."""
        noted = {(d["room"], d["file"], str(d["number"])) for d in self.noted()}
        left = [m for m in mutants if (m.room, m.file, str(m.number)) not in noted]
        while (left and time.monotonic() < until) or self._running:
            while left and len(self._running) < self._jobs and time.monotonic() < until:
                self._begin(left.pop())
            self._wait()

    def noted(self) -> list[dict[str, str]]:
        """What became of each mutant so far."""
        return [json.loads(line) for line in self._results.read_text().splitlines()]

    def _begin(self, mutant: Mutant) -> None:
        tests = tests_of(mutant, self._by)
        if not tests:
            self._note(mutant, "no test")
            return
        seconds = PATIENCE_SECONDS + PATIENCE * sum(self._by.seconds[test] for test in tests)
        process = os.fork()
        if process == 0:
            _try(mutant, tests)
        self._running[process] = _Running(mutant, time.monotonic() + seconds)

    def _wait(self) -> None:
        time.sleep(0.05)
        for process, running in list(self._running.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            late = not ended and time.monotonic() > running.until
            if late:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
            if ended or late:
                del self._running[process]
                self._note(running.mutant, "killed" if late or status else "survived")

    def _note(self, mutant: Mutant, what: str) -> None:
        told = {key: value for key, value in asdict(mutant).items() if key != "source"}
        with self._results.open("a") as file:
            file.write(json.dumps({**told, "what": what}) + "\n")


def _try(mutant: Mutant, tests: Sequence[str]) -> None:
    """In a process of its own: end with 0 if every test passes; those that start no server are first."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    sys.meta_path.insert(0, _Changed(mutant))
    options = ["-x", "-q", "-p", "no:cacheprovider"]
    status = 0
    try:
        for _, some in groupby(tests, key=lambda test: test.startswith("tests/unit")):
            status = status or int(pytest.main([*options, *some]))
    except BaseException:  # noqa: BLE001 - whatever the mutant does, it must not come back as a second parent
        status = 1
    os._exit(status)


def score(noted: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Lines with the mutants that were killed, by room and in all, and those that were not."""
    rooms = {room: Counter(d["what"] for d in noted if d["room"] == room) for room in CORE}
    for room, found in {**rooms, "all": sum(rooms.values(), Counter())}.items():
        if found:
            yield f"{room:13} {found['killed']:4} of {found.total():4}, {found['killed'] / found.total():.1%}"
    for d in noted:
        if d["what"] != "killed":
            yield f"{d['what']}: {d['file']}:{d['line']}\n  was {d['was']}\n  now {d['now']}"


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.mutants", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--each", type=int, default=65, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--map", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.map:
        asked.map.write_text(json.dumps(asdict(executed())))
        return 0
    until = time.monotonic() + 60 * asked.minutes
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
    folder = ROOT / "build" / "mutants" / commit
    folder.mkdir(parents=True, exist_ok=True)
    lines, results = folder / "executed.json", folder / f"seed-{asked.seed}.jsonl"
    results.touch()
    if not lines.exists():
        measure = [sys.executable, "-m", "tests.proof.mutants", "--map", str(lines)]
        subprocess.run(measure, check=True, cwd=ROOT)  # noqa: S603 - what it imports must not be in this process
    for name in WARM:
        importlib.import_module(name)
    hunt = Hunt(Executed(**json.loads(lines.read_text())), results, asked.jobs)
    hunt.run(sample(asked.each, asked.seed), until)
    sys.stdout.write("\n".join([*score(hunt.noted()), ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
