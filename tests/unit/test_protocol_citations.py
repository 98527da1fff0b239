"""The clauses of docs/protocol.md and their citations, `(protocol D3)` or `(protocol D3, L9)`, in code and tests."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = ROOT / "docs" / "protocol.md"
CITING = ("lockstep", "functions", "oci_fn", "cdk", "sandbox", "tests")

_CLAUSE = re.compile(r"^\*\*([A-Z][0-9]{1,2})[.,]", re.MULTILINE)
_GONE = re.compile(r"^Ids of rules that are gone[^:]*: (.*)\.$", re.MULTILINE)
_ID = re.compile(r"[A-Z][0-9]{1,2}")
_CITATION = re.compile(r"\(protocol ([^)]{1,80})\)")


def clauses() -> list[str]:
    """The ids of all clauses, in the order of the page."""
    return _CLAUSE.findall(PROTOCOL.read_text())


def gone() -> set[str]:
    """The ids of the rules that are gone, or are part of another one."""
    found = _GONE.search(PROTOCOL.read_text())
    assert found
    return set(_ID.findall(found[1]))


def citations() -> Iterator[tuple[str, str]]:
    """Each cited id with the file that cites it."""
    for path in (path for folder in CITING for path in sorted((ROOT / folder).rglob("*.py"))):
        for cited in _CITATION.findall("" if path == Path(__file__).resolve() else path.read_text()):
            yield from ((clause, str(path.relative_to(ROOT))) for clause in cited.split(", "))


def test_each_clause_has_an_id_of_its_own() -> None:
    """No id names two clauses, or one that is gone, and the numbers of a section have no gap."""
    found = [*clauses(), *gone()]
    assert len(found) == len(set(found))
    for letter in sorted({c[0] for c in found}):
        numbers = sorted(int(c[1:]) for c in found if c[0] == letter)
        assert numbers == list(range(1, len(numbers) + 1)), letter


def test_each_citation_names_a_clause_and_each_clause_is_cited() -> None:
    """A citation of what is no clause is a mistake; a rule that nothing cites may have no implementation."""
    known, found = clauses(), list(citations())
    assert [(clause, path) for clause, path in found if clause not in known] == []
    assert {*known} - {clause for clause, _ in found} == set()


def test_the_page_refers_to_its_own_clauses_only() -> None:
    """A reference from one clause to another names a clause that exists."""
    text = PROTOCOL.read_text()
    referred = {i for group in re.findall(r"\(([A-Z][0-9]{1,2}[^)]*)\)", text) for i in _ID.findall(group)}
    assert referred
    assert referred <= set(clauses())
