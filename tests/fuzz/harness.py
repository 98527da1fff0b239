"""Shared by all fuzz tests: how many inputs, the strategies that make them, and the checks on every result."""

import copy
import json
import logging
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lockstep.protocol.errors import LockstepError

PROOF = os.environ.get("HYPOTHESIS_PROFILE") == "proof"
MORE_FOR_PROOF = 20
CPU_SECONDS = 10.0
"""Limit for one input on a slow machine. Unbounded growth takes minutes."""

CANARY = "Canary!hunter2"
"""Takes the place of a secret in the fuzzed texts; no message may contain it."""

Json = Any
"""A JSON document, or one with values that only Python's JSON has, such as NaN."""


def inputs(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test on `count` inputs, the same ones each time; with HYPOTHESIS_PROFILE=proof on many more, new ones."""
    return settings(
        max_examples=count * MORE_FOR_PROOF if PROOF else count,
        # The code under test keeps no state between inputs.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


class _Everything(logging.Handler):
    """Collects every log record with all its fields."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()} {record.__dict__}\n"


@contextmanager
def judged(allowed: type[LockstepError] = LockstepError) -> Iterator[None]:
    """Judge one input: it succeeds or raises `allowed`, in bounded time, and the canary is in no error or log line."""
    logged, logger = _Everything(logging.DEBUG), logging.getLogger("lockstep")
    logger.addHandler(logged)
    began = time.process_time()
    shown = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # A warning may quote the input.
            yield
    except allowed as e:
        shown = "".join(traceback.format_exception(e)) + repr(e) + repr(vars(e))
    finally:
        logger.removeHandler(logged)
    spent = time.process_time() - began
    assert CANARY not in shown, f"an error shows a secret: {shown}"
    assert CANARY not in logged.text, f"a log line shows a secret: {logged.text}"
    assert spent < CPU_SECONDS, f"{spent:.1f} s"


# Strategies

characters = st.characters(codec=None)
"""All characters, including lone surrogates, which JSON can spell and no encoding can encode."""
_ODD_TEXTS = (
    *("", CANARY, f"x\n{CANARY}", "\ud800", "\x00", "\ufeff", "*", "<<", "0" * 5000, "x" * 30_000, "NaN"),
    *("__proto__", "../../../etc", "99999999999d", "2026-13-45T99:99:99Z", "${jndi:x}"),
)
_ODD_NUMBERS = (0, -1, 2**31, 2**53, 2**63, 2**64, 10**400, 10**4299, float("nan"), float("inf"), -0.0)
texts = st.text(characters, max_size=12) | st.sampled_from(_ODD_TEXTS)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(_ODD_NUMBERS) | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def nested(depth: int) -> Json:
    """Lists nested to a depth."""
    document: Json = CANARY
    for _ in range(depth):
        document = [document]
    return document


@st.composite
def mutated(draw: st.DrawFn, valid: Json) -> Json:
    """A valid document with one to three mutations: a part replaced, removed, added, moved or nested."""
    document = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document)) if isinstance(document, dict | list) else []
        if not places:
            return draw(documents)
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "replace", "remove", "add", "move", "nest"])):
            case "remove":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(texts)] = draw(documents)
            case "add":
                holder.insert(0, draw(documents))
            case "move":
                other, other_key = draw(st.sampled_from(places))
                holder[key] = copy.deepcopy(other[other_key])
            case "nest":
                holder[key] = nested(draw(st.sampled_from([1, 10, 200])))
            case _:
                holder[key] = draw(documents)
    return document


def _places(document: Json) -> Iterator[tuple[Any, Any]]:
    for key in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _places(document[key])


@st.composite
def mangled(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid text with one to three mutations: a part of it cut, removed, doubled, or replaced by other bytes."""
    text = valid
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        until = draw(st.sampled_from([at, len(text), min(len(text), at + draw(st.integers(0, 40)))]))
        other = draw(st.sampled_from([b"", text[at:until] * 2, *_JUNK]) | st.binary(max_size=8))
        text = text[:at] + other + text[until:]
    return text


_JUNK = (
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\\ud800", b"NaN", b"-Infinity", b"1e999", b"9" * 5000),
    *(b"[" * 3000, b'{"a":' * 3000, b"!!python/object/apply:os.system ['id']", b"!!binary ###"),
    *(b"!!timestamp 2026-13-45", b"&a [*a]", b"*unknown", b"<<: *a", b"\t", b"---\n", b"%YAML 9.9\n"),
    *(b"? ", b'"'),
    CANARY.encode(),
)


def spoiled(valid: Json, text: bytes = b"") -> st.SearchStrategy[bytes]:
    """A valid document of which values, or bytes of its text, are changed; or another document.

    Args:
        valid: The document.
        text: How it is spelled; as JSON, unless given.
    """
    others = (mutated(valid) | documents).map(lambda document: json.dumps(document).encode())
    return others | mangled(text or json.dumps(valid).encode())
