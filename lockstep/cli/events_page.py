# ruff: noqa: E501 - a row of a table is one line in the page, and here
"""docs/events.md and docs/events.schema.json, from the classes themselves.

python -m lockstep.cli.events_page page > docs/events.md
python -m lockstep.cli.events_page schema > docs/events.schema.json
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lockstep.events.cloud_event import event_of, source_of, type_of
from lockstep.events.happenings import (
    NAMES,
    Adopted,
    Entry,
    Failed,
    Happening,
    Paused,
    PreviousDies,
    Promoted,
    Resumed,
    Retired,
)
from lockstep.shapes import Matching, Message

_ATTRIBUTE = re.compile(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", re.MULTILINE)
_PLAIN = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
    NoneType: {"type": "null"},
}
_PROMOTED_AT = datetime(2026, 11, 27, 12, 0, 7, tzinfo=UTC)
_OVERLAP_ENDS_AT = datetime(2026, 11, 27, 12, 16, 7, tzinfo=UTC)
_ID, _ENTRY, _RUN = (
    "multi-cloud/app_user",
    Entry(stream="aws", seq=42),
    "5d0b9a1c-6f3e-4c39-9d63-2f8f6b1f7c11",
)

_HEAD = """\
# Events

Made from the classes by `python -m lockstep.cli.events_page page > docs/events.md`.

Lockstep tells other programs what has happened as [CloudEvents 1.0](https://cloudevents.io), in JSON. None is sent unless the
plan says where:

```yaml
events:
  aws: {name: platform-events, region: eu-central-1} # a bus of EventBridge; `default` is the one that every account has
  oci: # a topic of OCI Notifications
    topic_id: ocid1.onstopic.oc1.eu-frankfurt-1.exampleuniqueid
    compartment_id: ocid1.compartment.oc1..exampleuniqueid # its compartment, for the policy
    region: eu-frankfurt-1
```

Bus and topic must exist. The stack adds one function with [a role of its own](iam.md#with-events), Terraform
[one statement](iam-oci.md#the-oci-runner).

| what happened | who sends it | when |
|---|---|---|
| a run in AWS | the function `announce`, to the bus | when the execution has ended: Step Functions tells EventBridge, also of one that timed out, was stopped, or lost a step to a crash |
| a run in OCI | the OCI function, to the topic | when the lock is free again |
| an operator's command | the command, to both, with the operator's own rights | when it is done |

**An event is no evidence, and nothing waits for it** (protocol E18). A program that must not miss a change reads the store, or the
[audit log](audit-report.md). In particular:

- From AWS an event comes once, several times, or not at all: Step Functions
  [tells as well as it can](https://docs.aws.amazon.com/eventbridge/latest/ref/events-ref-states.html); then Lambda tries three times. What
  is not sent counts as an error of the function `announce`.
- From OCI it comes at most once, as it leaves Lockstep: it is tried once, for 3 s. After the first that is not sent, or a run whose
  events take more than 2 s, no other is tried in the same call of the function. What is not sent is logged, as `events_not_sent`. A call that the platform ends tells nothing more.
- From a command it comes at most once. One that is not sent is a line on standard error; the exit code stays.
- A repeat has the same `id` and `source`. Events may come out of order: `data.generation` only grows.
- A run by a definition of the state machine from before events, such as after a roll-back, is told only if it fails.
- A topic takes 60 messages a minute, so 30 rotations. An event has less than 2 KB.
- OCI's own service Events takes events of Oracle's services only, so there is no rule for these.

In EventBridge the CloudEvent is the `detail`; `source` is `lockstep` and `detail-type` the `type`, so a rule is

```json
{"source": ["lockstep"], "detail-type": ["dev.lockstep.credential.promoted"], "detail": {"subject": ["multi-cloud/app_user"]}}
```

In OCI it is the body of the message. Within a major version fields are only added: ignore what you do not know.
[events.schema.json](events.schema.json) is the JSON Schema.
[Force a sync of External Secrets](how-to/external-secrets-force-sync.md) is an example of a receiver.

| attribute | what it is |
|---|---|
| `specversion` | `1.0` |
| `id` | the credential, the run or the audit entry, and the kind, with slashes between them |
| `source` | the lock table: `/lockstep/`, its region, `/`, its name |
| `type` | see below |
| `subject` | the credential's id in the plan |
| `time` | when it happened, in UTC |
| `datacontenttype` | `application/json` |
| `data` | see below |
"""


def examples() -> Mapping[type[Happening], dict[str, Any]]:
    """An event of each kind."""
    source = source_of(region="eu-central-1", table="lockstep")
    return {
        type(h): event_of(h, source=source, cause=_RUN, time=_PROMOTED_AT).document() for h in _happenings()
    }


def _happenings() -> Iterator[Happening]:
    yield Promoted(
        credential=_ID,
        runner="aws",
        rotation=_RUN,
        trigger="schedule",
        kind="new",
        generation=8,
        previous_generation=7,
        stores=("aws", "oci"),
        promoted_at=_PROMOTED_AT,
        overlap_ends_at=_OVERLAP_ENDS_AT,
        revoked=False,
        adopted=False,
        entry=_ENTRY,
    )
    yield PreviousDies(
        credential=_ID,
        runner="aws",
        rotation=_RUN,
        generation=8,
        previous_generation=7,
        dies_at=_OVERLAP_ENDS_AT,
        reason="overlap",
    )
    yield Failed(
        credential=_ID,
        runner="aws",
        rotation=_RUN,
        trigger="schedule",
        status="failed",
        error="DatabaseUnreachableError",
    )
    yield Adopted(credential=_ID, stores=("aws", "oci"), databases=("orders",), entry=_ENTRY)
    yield Paused(credential=_ID, entry=_ENTRY)
    yield Resumed(credential=_ID, entry=_ENTRY)
    yield Retired(credential=_ID, left_alive=(7, 8), entry=_ENTRY)


def page() -> str:
    """The page."""
    return _HEAD + "".join(_section(kind, example) for kind, example in examples().items())


def _section(kind: type[Happening], example: dict[str, Any]) -> str:
    told = _told(kind)
    rows = "".join(
        f"| `{name}` | {_shape(part.hint)} | {told[name]} |\n" for name, part in kind.model_fields().items()
    )
    shown = json.dumps(example, indent=2)
    return (
        f"\n## {type_of(kind)}\n\n{_summary(kind)}\n\n| `data` | type | meaning |\n|---|---|---|\n{rows}"
        f"\n```json\n{shown}\n```\n"
    )


def schema() -> dict[str, Any]:
    """The schema of every event (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An event of Lockstep, as a CloudEvent 1.0",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "format": "uri-reference", "minLength": 1},
            "type": {"enum": [type_of(kind) for kind in NAMES]},
            "subject": {"type": "string", "minLength": 1},
            "time": _PLAIN[datetime],
            "datacontenttype": {"const": "application/json"},
        },
        "oneOf": [
            {
                "properties": {
                    "type": {"const": type_of(kind)},
                    "data": {"$ref": f"#/$defs/{kind.__name__}"},
                }
            }
            for kind in NAMES
        ],
        "$defs": {kind.__name__: _schema_of(kind) for kind in (Entry, *NAMES)},
    }


def _schema_of(kind: type[Message]) -> dict[str, Any]:
    told = _told(kind)
    fields = kind.model_fields()
    return {
        "type": "object",
        "description": _summary(kind),
        "required": list(fields),
        "properties": {
            name: {**_type(part.hint), "description": told[name].replace("`", "")}
            for name, part in fields.items()
        },
    }


def _type(hint: Any) -> dict[str, Any]:  # noqa: ANN401 - an annotation
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        patterns = [f"^{note.pattern}$" for note in arguments[1:] if isinstance(note, Matching)]
        return {**_type(arguments[0]), **({"pattern": patterns[0]} if patterns else {})}
    if origin in (Union, UnionType):
        return {"anyOf": [_type(argument) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0])}
    return {"$ref": f"#/$defs/{hint.__name__}"} if issubclass(hint, Message) else dict(_PLAIN[hint])


def _shape(hint: Any) -> str:  # noqa: ANN401 - an annotation
    """A type in words."""
    match _type(hint):
        case {"anyOf": [_, {"type": "null"}]}:
            return f"{_shape(get_args(hint)[0])} or null"
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array"}:
            return f"array of {_shape(get_args(hint)[0])}"
        case {"format": "date-time"}:
            return "time"
        case {"$ref": _}:
            return ", ".join(f"`{name}`" for name in hint.model_fields())
        case {"type": name}:
            return str(name)
    raise TypeError(str(hint))


def _summary(kind: type[Message]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _told(kind: type[Message]) -> dict[str, str]:
    """What a docstring says of each attribute."""
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(kind.__doc__ or "")}


if __name__ == "__main__":
    sys.stdout.write(page() if sys.argv[1:] == ["page"] else json.dumps(schema(), indent=2) + "\n")
