"""JSONata for moto's state machines.

moto's interpreter knows the JSONata states but has no evaluator, only an empty function pointer. The package
`jsonata-python` replaces it; it is a port of the evaluator that Step Functions builds on. The interpreter passes
one self-contained expression that first declares `$states` and the assigned variables.
"""

import hashlib
import json
import math
import uuid
from collections.abc import Callable, Mapping

from jsonata import Jsonata  # type: ignore[import-untyped]  # the package carries no types
from jsonata.jexception import JException  # type: ignore[import-untyped]  # the package carries no types
from jsonata.utils import Utils  # type: ignore[import-untyped]  # the package carries no types
from moto.stepfunctions.parser.asl.jsonata.jsonata import JSONataException

from sandbox.emulators.aws.patching import Foreign, Patches
from sandbox.emulators.aws.strict_states import failure

_ASL = "moto.stepfunctions.parser.asl"
_HASHES = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}


def apply(patches: Patches, wall_clock: Callable[[], float]) -> None:
    """Let moto run JSONata state machines."""
    patches.replace(f"{_ASL}.jsonata.jsonata:_eval_jsonata", evaluate)
    tell_the_time(patches, wall_clock)
    quote_strings(patches)
    offer_step_functions_own_functions(patches)
    report_failed_expressions(patches)


def evaluate(expression: str) -> object:
    """Evaluate one self-contained JSONata expression.

    Returns:
        Plain JSON: null and undefined as None, a whole number as an int.

    Raises:
        JSONataException: The expression is not JSONata, fails, or has a result that JSON cannot hold.
    """
    try:
        compiled = Jsonata(expression)
        compiled.register_lambda("uuid", lambda: str(uuid.uuid4()))
        compiled.register_lambda("hash", _hash)
        compiled.register_lambda("parse", _parsed)
        return _plain(compiled.evaluate(None))
    except JException as error:
        raise JSONataException(str(error.error), str(error)) from error
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # The port raises Python's own errors where the original has an error code, as for `1/0`.
        raise JSONataException("UNKNOWN", str(error)) from error


def tell_the_time(patches: Patches, wall_clock: Callable[[], float]) -> None:
    """`$now()` and `$millis()` read the sandbox's clock."""
    patches.replace(
        "jsonata.timebox:Timebox.current_milli_time", staticmethod(lambda: round(wall_clock() * 1000))
    )


def quote_strings(patches: Patches) -> None:
    r"""A variable is declared as JSON text that `$parse` reads.

    moto puts bare quotes around a string, so that a `"` or `\` in a value breaks the expression, or becomes part of it.
    Other values it writes as JSONata, which takes five times as long to read.
    """
    for module in ("states", "variable_store"):
        patches.replace(f"{_ASL}.eval.{module}:encode_jsonata_variable_declarations", _declare)


def offer_step_functions_own_functions(patches: Patches) -> None:
    """`$uuid`, `$hash` and `$parse` work; moto declares the first two as functions that return an error text."""

    def wrapper(declarations: Mapping[str, str]) -> object:
        return {name: text for name, text in declarations.items() if name not in {"$uuid", "$hash", "$parse"}}

    patches.wrap(f"{_ASL}.component.intrinsic.jsonata:_DECLARATION_BY_VARIABLE_REFERENCE", wrapper)


def report_failed_expressions(patches: Patches) -> None:
    """An expression that fails raises `States.QueryEvaluationError`, which a state can catch.

    moto reports `States.Runtime`, which no state can catch.
    """

    def wrapper(original: Foreign) -> object:
        def eval_body(self: Foreign, env: Foreign) -> None:
            try:
                original(self, env)
            except JSONataException as error:
                cause = f"The JSONata expression '{self.expression}' threw an error during evaluation."
                raise failure(
                    env,
                    "States.QueryEvaluationError",
                    f"{cause} {error.error}: {error.details}",
                    evaluation=True,
                ) from error

        return eval_body

    patches.wrap(f"{_ASL}.component.common.string.string_expression:StringJSONata._eval_body", wrapper)


def _declare(bindings: Mapping[str, object]) -> str:
    return "".join(f"{name}:=$parse({json.dumps(json.dumps(value))});" for name, value in bindings.items())


def _parsed(text: str) -> object:
    return _with_nulls(json.loads(text))


def _with_nulls(value: object) -> object:
    """The value as the port holds it: its null is an object, and Python's None is undefined."""
    match value:
        case None:
            return Utils.NULL_VALUE
        case list():
            return [_with_nulls(item) for item in value]
        case dict():
            return {key: _with_nulls(item) for key, item in value.items()}
        case _:
            return value


def _hash(value: str, algorithm: str) -> str:
    return hashlib.new(_HASHES[algorithm], value.encode()).hexdigest()


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return int(value) if value.is_integer() else value
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case _:
            raise ValueError(f"{type(value).__name__} is no JSON value")
