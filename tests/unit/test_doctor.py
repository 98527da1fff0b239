"""`lockstep doctor`: how checks are chosen and run, and how findings are shown."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lockstep.aws.reads import AwsReads
from lockstep.cli import doctor
from lockstep.databases.findings import Finding, Outcome, failed, not_asked, passed, verdict, warning
from lockstep.oci.clients import OciClients
from lockstep.oci.reads import OciReads
from lockstep.operate.access import operator
from lockstep.operate.doctor import in_cloud
from lockstep.operate.doctor.catalogue import catalogue
from lockstep.operate.doctor.checks import Check, Context, chosen, examine, unknown_word
from lockstep.operate.doctor.inside import Reply
from lockstep.protocol.errors import Environment, EnvironmentalError, StoreBusyError
from lockstep.protocol.strict_json import write
from tests.support.memory import make_plan

PLAN = make_plan()
CONTEXT = Context(plan=PLAN, clouds=operator(PLAN))
ANSWERS = (
    passed("a.one", "a", "it is"),
    warning("a.one", "b", "it is near", "aws raise it"),
    failed("a.one", "c", "it is not", "aws fix " + "x" * 200),
    not_asked("a.one", "d", "nobody knows"),
)


def check(check_id: str, *answers: Finding, error: Exception | None = None) -> Check:
    def ask(_context: Context) -> Iterator[Finding]:
        yield from answers or ([] if error else [passed(check_id, "s", "yes")])
        if error:
            raise error

    return Check(id=check_id, looks_at="it", means="bad", ask=ask)


def test_checks_are_run_in_order_with_what_they_say_before_they_fail() -> None:
    checks = [
        check("a.one", passed("a.one", "t", "yes"), error=StoreBusyError(store="aws")),
        check("a.two", error=RuntimeError("hunter2")),
        # Where nobody knows who asks, the rest of a cloud is not asked.
        check("aws.identity", error=EnvironmentalError(Environment.AWS_SESSION_EXPIRED)),
        check("aws.secrets"),
        check("b.one", failed("b.one", "u", "no", "fix it")),
    ]
    found = examine(checks, CONTEXT)
    assert ", ".join(f"{one.check} {one.outcome.name}" for one in found) == (
        "a.one PASSED, a.one NOT_ASKED, a.two NOT_ASKED, aws.identity NOT_ASKED, aws.secrets NOT_ASKED, b.one FAILED"
    )
    assert found[1].says == "StoreBusyError: The secret is being updated by another call. [store=aws]"
    # A check that is wrong hides nothing else, and no secret is shown.
    assert ("UnexpectedError" in found[2].says, "hunter2" in found[2].says) == (True, False)
    assert found[4].says == "first fix aws.identity"
    assert (found[5].command, found[5].where) == ("fix it", "here")


def test_checks_are_chosen_by_id_and_by_group() -> None:
    checks = [check("a.one"), check("a.two"), check("b.one")]
    for only, expected in (("", "a.one a.two b.one"), ("a", "a.one a.two"), ("b.one a.two", "a.two b.one")):
        assert [c.id for c in chosen(checks, PLAN, only=only.split())] == expected.split()
    assert unknown_word(checks, ["a", "b.one"]) is None
    assert "the groups are a, b; did you mean a.two?" in (unknown_word(checks, ["a.tow"]) or "")


def test_reads_can_change_nothing() -> None:
    aws = AwsReads(lambda _service, _region: pytest.fail("a client was made"), "eu-central-1")
    oci = OciReads(lambda _region: OciClients(lambda: pytest.fail("signed in"), "eu-frankfurt-1"))
    with pytest.raises(ValueError, match="delete_secret is not a read"):
        aws("secretsmanager", "delete_secret", SecretId="s")
    with pytest.raises(ValueError, match="update_secret is not a read"):
        oci("eu-frankfurt-1", "vault.VaultsClient", "update_secret", "ocid")


def test_what_is_wrong_is_shown_first_and_what_passed_as_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    passes = check("b.one", *(passed("b.one", f"s{n}", "it is") for n in range(30)))
    gates = (check(c, not_asked(c, "e", "nobody knows")) for c in ("c.one", "c.two"))
    doctor.show(examine([check("a.one", *ANSWERS[:3]), passes, *gates], CONTEXT))
    *lines, last = capsys.readouterr().out.splitlines()
    failure, warned = f"    {ANSWERS[2].command}", "    aws raise it"  # None is wrapped.
    assert lines[:4] == ["failed  a.one  c: it is not", failure, "warning  a.one  b: it is near", warned]
    assert lines[4:] == ["not asked  2 checks  nobody knows"]
    assert last.startswith("something is wrong (1 failed, 1 warning, 2 not asked, 31 passed)")
    # The gravest outcome is the verdict; a warning is none.
    assert [verdict(ANSWERS[:n]) for n in (2, 4)] == [Outcome.PASSED, Outcome.FAILED]
    assert verdict((ANSWERS[0], ANSWERS[3])) is Outcome.NOT_ASKED


# The answers of functions


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b'{"findings": [], "plans": 7}', "builds differ"),
        (b"\xff", "builds differ"),
        (b'{"error": "InvalidPlanError"}', "InvalidPlanError"),
        (b'{"errorMessage": "hunter2 timed out"}', "did not answer in time"),
    ],
)
def test_an_answer_that_is_none_is_told_and_may_have_seen_a_refusal(payload: bytes, says: str) -> None:
    for where in ("aws/watch", "aws/apply_db", "oci/rotate"):
        (found,), refused = in_cloud.answer_of(CONTEXT, where, "lockstep", payload)
        assert (found.check, found.where, found.outcome) == (in_cloud.FUNCTION, where, Outcome.FAILED)
        assert (says in found.says, bool(found.command), "hunter2" in found.says) == (True, True, False)
        assert refused == (frozenset() if where == "aws/watch" else {"db-1", "db-2"})


@pytest.mark.parametrize("where", ["aws/generate", "oci/rotate"])
def test_another_plan_is_deployed_by_what_takes_it_along(where: str) -> None:
    """The plan is published, so the image of the function in OCI stays; without one the function would go."""
    reply = Reply(findings=(), plans={PLAN.credentials[0].id: "another"})
    found, _ = in_cloud.answer_of(CONTEXT, where, "it", json.dumps(write(reply)).encode())
    [command] = [f.command for f in found if f.check == in_cloud.PLAN]
    assert command
    assert command.endswith("lockstep plan diff OLD NEW")
    assert ("docker push" in command, "TF_VAR_image=" in command) == (False, where == "oci/rotate")


def test_functions_show_no_login_where_databases_are_left_out() -> None:
    without = chosen(catalogue(), PLAN, only=["aws", "inside"])
    assert doctor.silent(without, CONTEXT) == {"db-1", "db-2"}
    looked: Any = SimpleNamespace(databases=SimpleNamespace(refused={"db-2"}))
    assert doctor.silent(chosen(catalogue(), PLAN, only=["inside", "database.login"]), looked) == {"db-2"}


def test_what_a_database_was_not_asked_from_here_and_answered_inside_is_told_once() -> None:
    login, tls, accounts = (not_asked(f"database.{n}", "db", "it") for n in ("login", "tls", "accounts"))
    failing = failed("database.route", "db", "it", "c")
    inside = [passed("database.login", "db app", "it"), tls, passed("database.accounts", "db2 app", "it")]
    assert doctor.merged([login, tls, accounts, failing], inside) == [tls, failing, *inside]
