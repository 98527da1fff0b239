"""What no emulator can tell: `unknowns.yaml`, and what real accounts have answered (`docs/confirmed.json`).

`lockstep doctor --confirm FILE` asks by what changes nothing: the findings of `doctor --in-cloud`, and reads. What
would change something, or takes a day, it names as a command.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import jmespath  # type: ignore[import-untyped]  # it ships no types
import msgspec
from msgspec import UNSET
from ruamel.yaml import YAML

from lockstep import __version__
from lockstep.databases.findings import HERE, Finding, Outcome, verdict
from lockstep.operate.doctor.checks import Check, Context
from lockstep.operate.formatting import moment
from lockstep.plan.model import Plan
from lockstep.plan.stores import OciVault
from lockstep.protocol.ports import chain_folder, entry_name
from lockstep.protocol.strict_json import Message, parse, read
from lockstep.runtime.identity import OCI_ENDPOINT_VARIABLE, Cloud

CONFIRMED, MEASURED, REFUTED = "confirmed", "measured: ", "refuted: "
"""How the sentences of answers begin."""
ELSEWHERE = "other endpoints"
"""In `regions`, where the environment names other endpoints than the clouds' own: emulators, for example."""
_OF_SOMEBODY = re.compile(r"\b[0-9]{12}\b|ocid1\.|arn:")
"""What names an account or something in it."""


class Told(Message):
    """The findings that answer: of a check, from a place, with this in their subject and sentence."""

    check: str
    where: str = HERE
    about: str = ""


class Read(Message, kw_only=True):
    """A call that changes nothing, and what of its answer is looked at.

    Attributes:
        cloud: Whose.
        client: A service of boto3, or a class of OCI's SDK such as `limits.LimitsClient`.
        operation: The SDK's name of it.
        parameters: Its arguments.
        look: JMESPath into the answer.
        expect: What that must give; without it, that is a measurement.
    """

    cloud: Cloud
    client: str
    operation: str
    parameters: Mapping[str, Any] = {}
    look: str
    expect: Any = UNSET


class Unknown(Message, kw_only=True):
    """A question to a real account, and one way to ask it; `unknowns.yaml` says what each field is."""

    id: str
    what: str
    depends: str
    when: str = "@"
    first: str = ""
    finding: Told | None = None
    read: Read | None = None
    by_hand: str = ""


class Confirmation(Message, kw_only=True):
    """What a real account has answered, without a name of anything in it.

    Attributes:
        answer: `confirmed`, `refuted`, or `measured: ` with the value as JSON.
        on: The day.
        version: That of Lockstep.
        regions: Those of the plan, such as `aws eu-central-1`; and `ELSEWHERE`.
    """

    answer: str
    on: date
    version: str
    regions: Sequence[str]


@cache
def unknowns() -> tuple[Unknown, ...]:
    """All of them, in groups."""
    listed = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml"))
    return msgspec.convert(listed, tuple[Unknown, ...])


def questions(plan: Plan, findings: Sequence[Finding]) -> list[Check]:
    """Those to which a plan gives rise, as checks, each of which gives one finding: its answer.

    Args:
        plan: The plan.
        findings: Of the doctor, from here and from the functions.
    """
    document = plan.model_dump(mode="json", by_alias=True)
    return [
        Check(id=one.id, looks_at=one.what, means=one.depends, ask=partial(_ask, one, findings))
        for one in unknowns()
        if jmespath.search(one.when, document)
    ]


def _ask(unknown: Unknown, findings: Sequence[Finding], context: Context) -> Iterator[Finding]:
    names, command = names_of(context), None
    if told := unknown.finding:
        outcome, says = _of_findings(told, findings, filled(told.about, names))
    elif unknown.read:
        outcome, says = _of_value(unknown.read, _looked(unknown.read, context, names))
    else:
        outcome, says = Outcome.BY_HAND, "it costs a change or a day, so it is left to you"
        command = filled(unknown.by_hand, names)
    if outcome is Outcome.NOT_ASKED and unknown.first:
        says = f"{says}; first: {filled(unknown.first, names)}"
    yield Finding(check=unknown.id, subject=unknown.what, outcome=outcome, says=says, command=command)


def _of_findings(told: Told, findings: Sequence[Finding], about: str) -> tuple[Outcome, str]:
    """What the gravest of those that answer says."""
    place = (told.check, told.where)
    found = [f for f in findings if (f.check, f.where) == place and about in f"{f.subject}: {f.says}"]
    if not (gravest := [f for f in found if f.outcome is verdict(found)]):
        return Outcome.NOT_ASKED, f"{told.check} says nothing of it from {told.where}"
    outcome, text = gravest[0].outcome, gravest[0].says
    return outcome, {Outcome.PASSED: CONFIRMED, Outcome.FAILED: f"{REFUTED}{text}"}.get(outcome, text)


def _of_value(read: Read, value: object) -> tuple[Outcome, str]:
    """What it says."""
    text = json.dumps(value)
    if value in (None, [], ""):
        return Outcome.NOT_ASKED, "nothing is there yet"
    if _OF_SOMEBODY.search(text):
        return Outcome.NOT_ASKED, "the answer names an account, so it is not kept"
    if read.expect is UNSET:
        return Outcome.PASSED, MEASURED + text
    if value == read.expect:
        return Outcome.PASSED, CONFIRMED
    return Outcome.FAILED, f"{REFUTED}{read.look} gives {text}"


def _looked(read: Read, context: Context, names: Mapping[str, str]) -> object:
    """What of the answer is looked at, as JSON has it."""
    if read.cloud == "aws":
        caller = context.aws("sts", "get_caller_identity")
        names = {**names, "account": caller["Account"], "partition": caller["Arn"].split(":")[1]}
        ask = partial(context.aws, read.client, read.operation)
    else:
        names = {**names, "tenancy": context.oci.config(names["oci_region"]).get("tenancy", "")}
        ask = partial(context.oci.plain, names["oci_region"], read.client, read.operation)
    written = {name: json.dumps(value)[1:-1] for name, value in names.items()}
    parameters = json.loads(filled(json.dumps(read.parameters), written))
    return msgspec.to_builtins(jmespath.search(read.look, ask(**parameters)))


def names_of(context: Context) -> dict[str, str]:
    """What stands for the names in braces; `account`, `partition` and `tenancy` are asked for with a read."""
    plan, now, first = context.plan, context.clouds.clock.now(), context.plan.credentials[0].id
    names = {
        "stack": context.stack,
        "region": plan.lock.region,
        "table": plan.lock.table,
        "credential": first,
        "bucket": plan.audit.aws.bucket,
        "entry": f"aws/{chain_folder(first)}/{entry_name(1)}",
        "start": moment(now - timedelta(hours=12)),
        "end": moment(now),
    }
    if vault := plan.store(OciVault):
        own = vault.compartment_of_own_secrets
        names |= {"oci_region": vault.region, "compartment": vault.compartment_id, "own_compartment": own}
    return names


def filled(text: str, names: Mapping[str, str]) -> str:
    """A text with the names that are known; others stay as they are."""
    return re.sub(r"\{([a-z_]+)\}", lambda name: names.get(name[1], name[0]), text)


# What was answered


def confirmations(file: Path) -> dict[str, Confirmation]:
    """What a file says of each id that it has; nothing where there is no file.

    Raises:
        MessageError: It is another file.
    """
    text = file.read_bytes() if file.exists() else b"{}"
    found: dict[str, Confirmation] = read(dict[str, Confirmation], parse(text))
    return found


def confirmed(earlier: Mapping[str, Confirmation], answers: Sequence[Finding], context: Context) -> str:
    """A file with these answers, and with the earlier ones to what was not answered now.

    What another endpoint answers takes no place of what the cloud itself has answered.
    """
    vault = context.plan.store(OciVault)
    regions = [f"aws {context.plan.lock.region}", *([f"oci {vault.region}"] if vault else [])]
    elsewhere = any(name.startswith(("AWS_ENDPOINT_URL", OCI_ENDPOINT_VARIABLE)) for name in os.environ)
    regions += [ELSEWHERE] * elsewhere
    real = {key: said for key, said in earlier.items() if elsewhere and ELSEWHERE not in said.regions}
    made = partial(Confirmation, on=context.clouds.clock.now().date(), version=__version__, regions=regions)
    said = {a.check: a.says for a in answers if a.outcome in {Outcome.PASSED, Outcome.FAILED}}
    new = {key: made(answer="refuted" if says.startswith(REFUTED) else says) for key, says in said.items()}
    text = msgspec.json.encode({**earlier, **new, **real}, order="sorted")
    return f"{msgspec.json.format(text, indent=2).decode()}\n"
