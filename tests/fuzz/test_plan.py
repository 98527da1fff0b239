"""Fuzzed plan files: each loads and can be rotated, or its mistakes are named."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.plan.file import PlanProblemsError, load_plan
from lockstep.plan.model import Plan
from tests.fuzz.harness import CANARY, Json, inputs, judged, nested, spoiled
from tests.support.memory import EPOCH
from tests.unit.test_plan_mistakes import BOTH, edited

VALID: Json = edited(
    BOTH,
    {
        "audit.aws.retention": "400d",
        "databases.0.verify_hosts": ["replica-1", "replica-2:3307"],
        "credentials.0.overlap": "16m",
        "credentials.1.alternates": ["app_user_a", "app_user_b"],
        "credentials.1.secret": "multi-cloud/blob",
    },
)
YAML_TEXT = (Path(__file__).parents[2] / "lockstep.yaml").read_text()


FOREIGN = re.compile(r"Input should|String should|Value error|Tuple|pydantic|\^|Traceback|<class")
"""How pydantic says things, and patterns."""


def judge(data: bytes, folder: Path) -> None:
    """The plan loads and can be rotated, or its problems are told in our words with their places, without a secret."""
    file = folder / "lockstep.yaml"
    file.write_bytes(data)
    with judged(PlanProblemsError):
        try:
            usable(load_plan(file))
        except PlanProblemsError as e:
            for problem in e.problems:
                assert problem.mark or "not UTF-8" in problem.message, problem
                # YAML has more kinds of line breaks than `splitlines` would have to agree with.
                assert not problem.mark or 1 <= problem.mark.line <= len(data) + 1
                assert not problem.mark or 1 <= problem.mark.column <= len(data) + 1
                assert not FOREIGN.search(problem.message), problem.message
            raise


def usable(plan: Plan) -> None:
    """Read from the plan everything that a rotation needs."""
    for credential in plan.credentials:
        schedule = credential.schedule
        assert EPOCH + schedule.interval + schedule.overlap > EPOCH
        assert len(credential.usernames) in {1, 2}
        assert credential.secret_names.app_user
        assert credential.password_policy.length >= len(credential.password_policy.classes)
        for server in credential.servers:
            assert provisioning(plan, credential, server).text()


@inputs(500)
@given(
    spoiled(VALID, YAML_TEXT.encode())
    | st.text(alphabet="*&!<>%@-?:,[]{}#|'\"\n \tax1", max_size=60).map(str.encode)
)
def test_any_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    judge(data, tmp_path_factory.getbasetemp())


def bomb(form: str) -> str:
    """Nine times as much with each line."""
    aliases = [", ".join([f"*a{n - 1}"] * 9) for n in range(1, 12)]
    return "\n".join(["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {form % of}" for n, of in enumerate(aliases, 1))])


BOMB, MERGE_BOMB = bomb("[%s]"), bomb("{<<: [%s]}")
DURATIONS = ("99999999999d", "999999999d", "9" * 5000 + "s", "\u0662\u0660m", "0s")
SPECIAL = {
    "a scalar": CANARY,
    "a bomb of aliases": BOMB,
    "a bomb of merges": MERGE_BOMB,
    "a bomb where a list belongs": f"{BOMB}\ndatabases: *a11\ncredentials: *a11\n",
    "a mapping of itself": "lock: &a {table: *a}\n",
    "an unknown alias": f"lock: *{CANARY}\n",
    "python": f"lock: !!python/object/apply:os.system ['{CANARY}']\n",
    "an unknown tag": f"lock: !{CANARY} x\n",
    "a key twice": f"lock: {CANARY}\nlock: x{CANARY}\n",
    "another version of YAML": "version: 1\nstores:\n%YAML 9.9\n  - kind: x\n",
    "two documents": "version: 1\n---\nversion: 1\n",
    "a byte order mark": "\ufeff" + YAML_TEXT,
    "a byte order mark within": "version: 1\n\ufeff" + YAML_TEXT,
    "a lone surrogate": 'lock: "\\ud800"\n',
    "numbers as keys": "1: 1\n2.0: 2\nnull: 3\ntrue: 4\n",
    "a secret as a key": f'"{CANARY}": 1\n',
    "a secret as a kind": f"stores: [{{kind: '{CANARY}'}}]\n",
    "a huge number": f"version: {'9' * 5000}\n",
    "a bad omap": "lock: !!omap {a: 1}\n",
    "a bad merge": f"<<: {CANARY}\n",
    "deep": json.dumps({"lock": nested(900)}),
    "deep by indentation": "\n".join(" " * n + "a:" for n in range(800)),
    "an unclosed variable": f'lock: "${{{CANARY}"\n',
    "an unclosed quote": f'lock: "{CANARY}\n',
    "a long line": "lock: " + "x" * 200_000,
    **{
        f"a duration of {d[:12]}": json.dumps(edited(VALID, {"credentials.0.interval": d})) for d in DURATIONS
    },
    "many keys": "\n".join(f"k{n}: 1" for n in range(3000)),
}


@pytest.mark.parametrize("text", SPECIAL.values(), ids=SPECIAL)
def test_special_plans(text: str, tmp_path: Path) -> None:
    judge(text.encode(), tmp_path)


def test_files_that_are_no_plan(tmp_path: Path) -> None:
    for data in (b"\xff\xfe\x00", b"\xef\xbb\xbfversion: 1\n", b"lock: \x80\n", b"\x00" * 100):
        judge(data, tmp_path)
    for other in (tmp_path, tmp_path / "nowhere", Path("/dev/null"), tmp_path / ("x" * 5000), Path("a\0b")):
        with judged(), pytest.raises(PlanProblemsError):
            load_plan(other)
