"""What the demo shows: acts, runs that failed on purpose and others, the screen at any width, and the end."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from lockstep.audit.verify import Verification, Verifier
from sandbox import demo
from sandbox.acts import WITH_APPLICATIONS
from sandbox.applications import Application, Applications, Login, Refusal
from sandbox.ending import failures, figures, sentences
from sandbox.screen import print_line, screen
from sandbox.story import End, Line, Run, Story
from tests.support.evidence import EvidenceWorld

PATH = "/a/long/way/to-the/build/demo-report.html"


def describe(run: Run, end: End) -> tuple[list[str], list[str]]:
    """What a story tells of a run, and its problems."""
    lines: list[Line] = []
    story = Story(tell=lines.append, acts=1)
    story.begin("An act", "Something happens.")
    del lines[:]
    story.add(run, end)
    return [line.text for line in lines], story.problems


def an_application(*, refused: int = 0) -> Application:
    application = Application(
        "app_user from aws at orders", lambda: Login(1, lambda: None), lambda _: True, logins=1200
    )
    application.refusals.extend(
        Refusal(application=application.name, generation=1, at=0) for _ in range(refused)
    )
    return application


def a_story(*runs: Run) -> Story:
    story = Story(tell=lambda _: None, acts=1)
    story.runs.extend(runs)
    return story


def a_run(runner: str = "aws", **more: object) -> Run:
    given = {"outcome": "rotated", "generation": 3, "milliseconds": 1234, **more}
    return Run(credential_id="multi-cloud/app_user", runner=runner, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "end", "told"),
    [
        (a_run(), End(), "AWS: generation 3 is current after 1.2 s"),
        (
            a_run("oci", adopted=True),
            End(adopted=True),
            "OCI: finished generation 3, which an earlier run had begun, after 1.2 s",
        ),
        (
            a_run(outcome="Lambda.Unknown", generation=None),
            End(outcome="Lambda.Unknown", cause="the demo killed it"),
            "AWS: failed after 1.2 s, on purpose: the demo killed it (Lambda.Unknown)",
        ),
    ],
)
def test_what_is_in_the_story_is_told_without_a_problem(run: Run, end: End, told: str) -> None:
    assert describe(run, end) == ([f"app_user by {told}"], [])


@pytest.mark.parametrize(
    ("run", "end", "wrong"),
    [
        (a_run(outcome="FenceLostError"), End(), "FenceLostError instead of rotated"),
        (a_run(), End(outcome="Lambda.Unknown", cause="killed"), "rotated instead of Lambda.Unknown"),
        (a_run(), End(adopted=True), "rotated instead of rotated, of an earlier run"),
    ],
)
def test_what_is_not_in_the_story_is_a_problem(run: Run, end: End, wrong: str) -> None:
    lines, problems = describe(run, end)
    assert lines[0] == f"NOT EXPECTED: multi-cloud/app_user by AWS: {wrong}"
    assert problems == [f"An act: multi-cloud/app_user by AWS: {wrong}"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_and_screen_keep_to_the_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    print_line(console, Line(WITH_APPLICATIONS[0].about, 2, "bold green"))
    console.print(screen(a_story(), Applications([an_application(), an_application()])))
    assert max(map(len, console.file.getvalue().splitlines())) <= width  # type: ignore[attr-defined]  # of StringIO


def end(*, refused: int = 0, problems: tuple[str, ...] = ()) -> tuple[Story, Applications]:
    story = a_story(a_run(), a_run("oci", adopted=True), a_run(outcome="Lambda.Unknown", generation=None))
    story.problems.extend(problems)
    return story, Applications([an_application(refused=refused)])


@pytest.fixture(scope="module", name="confirmed")
def _confirmed() -> Verifier:
    """Of a log whose digests each cloud has confirmed of the other one."""
    world = EvidenceWorld()
    world.hours(2)
    return world.verifier()


def test_the_end_says_what_happened_what_was_proven_and_where_to_look(confirmed: Verifier) -> None:
    story, applications = end()
    found = figures(
        story, applications, confirmed, [Verification(stream="aws")], seconds=120.3, runner_keys=0
    )
    happened, proven, look = sentences(
        found, failures(story, applications, found), applications=1, report=Path(PATH)
    )
    assert (
        "in 120 seconds AWS rotated 1 times and OCI 1 times (secrets stored for the other cloud: 0)"
        in happened.text
    )
    assert "1,200" in happened.text
    assert proven.text.startswith("What was proven: no login was refused, ")
    assert PATH in look.text
    assert all((demo.REPORT.parents[1] / page).exists() for page in re.findall(r"[\w/]+\.md", look.text))


@pytest.mark.parametrize(
    ("refused", "problems", "is_confirmed", "why"),
    [
        (2, (), True, "2 logins were refused"),
        (0, ("An act: it broke",), True, "An act: it broke"),
        (0, (), False, "the audit log is verified, not confirmed"),
    ],
)
def test_the_end_of_a_demo_that_failed_claims_no_proof(
    confirmed: Verifier, refused: int, problems: tuple[str, ...], why: str, *, is_confirmed: bool
) -> None:
    story, applications = end(refused=refused, problems=problems)
    verifier = confirmed if is_confirmed else EvidenceWorld().verifier()
    found = figures(story, applications, verifier, [], seconds=1, runner_keys=0)
    proven = sentences(found, failures(story, applications, found), applications=1, report=Path(PATH))[1]
    assert proven.text == f"What was NOT proven: {why}."


@pytest.mark.parametrize(("refused", "status"), [(0, 0), (1, 1)])
def test_the_last_line_is_json_with_the_same_keys(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    confirmed: Verifier,
    refused: int,
    status: int,
) -> None:
    monkeypatch.setattr(demo, "console", Console())
    story, applications = end(refused=refused)
    chains = {"multi-cloud/app_user": [Verification(stream="aws")]}
    assert demo.tell_end(story, applications, confirmed, chains, seconds=120.34, runner_keys=0) == status
    output = capsys.readouterr().out
    assert "digests of AWS: 2; confirmed until " in output
    assert "\x1b" not in output  # No colours.
    last = json.loads(output.splitlines()[-1])
    assert last | {"rotations": 2, "logins": 1200, "refused": refused, "audit_verdict": "verified"} == last
