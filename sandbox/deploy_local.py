"""`make deploy-local`: the real CDK CLI deploys onto this machine, and the deployed functions rotate.

1. MariaDB and PostgreSQL are started, AWS is moto, OCI an emulator; a plan names them.
2. The bundle is made from the plan, as for AWS, for the Python and the processor of this machine.
3. `cdk bootstrap` and `cdk deploy -c packaging=zip`, with all of the stack's checks, and the plan is published.
4. What Terraform and a person do once: OCI's secrets, its rights for the deployed roles, the administrators' secrets,
   and `lockstep plan sql` on the databases. There is no key between the clouds.
5. Each deployed rule is fired as often as asked: its target, its input, the deployed state machines of the fleet and of
   rotations, the uploaded package in processes that see nothing of the repository, each under its deployed role. Then
   the OCI function rotates, under the role that the stack has made for it.
6. The rule of digests is fired, then OCI's is made, and `lockstep audit verify` confirms what can be confirmed within
   an hour: the digest of AWS, by that of OCI. `lockstep doctor --in-cloud` lets the deployed functions look, and all
   is well.
7. The watch is fired while one credential is neglected, until the deployed alarm has paged a subscriber; then the
   credential is rotated, until the subscriber hears that it is over.

Ends with one line of JSON, and with status 1 if any check fails.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from lockstep.audit.confirmed import Verdict
from lockstep.audit.verify import verify
from lockstep.operate.watch import COUNTED
from lockstep.plan.published import WholePlan
from lockstep.protocol.model import Credential
from lockstep.runtime.identity import AWS_RUNNER
from lockstep.runtime.wiring import Runner
from sandbox.deployed_world import STACK, DeployedWorld, deployed_world, lockstep
from sandbox.emulators.aws.deployed import Fired, Schedule
from sandbox.estate import environment
from sandbox.watching import NothingArrivedError, Subscriber, Watching

ROUNDS = 2


def check_credential(world: DeployedWorld, credential: Credential, generation: int) -> list[str]:
    """What does not hold after a credential's rotation; nothing, if all is well."""
    names = credential.secret_names
    problems = [
        f"{name} does not serve generation {generation}"
        for name in (names.app_user, names.connection_blob)
        if world.current(name).get("generation") != generation
    ]
    with environment({**world.aws.environment(), **world.operator}):
        ports = Runner(WholePlan(world.plan.compiled), AWS_RUNNER).ports(credential.id)
        login = ports.stores.first.read_current().login
        for name, database in ports.databases.items():
            if login is None or not database.accepts(login):
                problems.append(f"{name} refuses the current login of {credential.id}")
        for found in verify(credential.id, [(ports.audit_log, ports.signer)]):
            problems += [f"audit chain of {credential.id}: {problem}" for problem in found.problems]
    return problems


def check_shard(world: DeployedWorld, schedule: Schedule, fired: Fired) -> list[str]:
    """What does not hold after a rule has fired; nothing, if each credential of its shard was rotated."""
    if fired.fleet.status != "SUCCEEDED":
        return [f"{schedule.rule}: {fired.fleet.error}: {fired.fleet.cause}"]
    ended = {rotation.input["credential_id"]: rotation for rotation in fired.rotations}
    if ended.keys() != set(world.shard(schedule).credential_ids):
        return [f"{schedule.rule} has rotated {', '.join(sorted(ended)) or 'nothing'}"]
    problems = []
    for credential in (c for c in world.plan.credentials if c.id in ended):
        output = ended[credential.id].output or {}
        if output.get("outcome") == "rotated":
            problems += check_credential(world, credential, output["generation"])
        else:
            told = output.get("outcome", ended[credential.id].error)
            problems.append(f"{credential.id}: {told} instead of rotated")
    return problems


def check_audit_objects(world: DeployedWorld) -> tuple[int, list[str]]:
    """How many audit entries and digests there are, and which of them are not as the plan wants them kept."""
    s3, audit = world.aws.client("s3"), world.plan.audit.aws
    problems = []
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=audit.bucket).get("Contents", [])]
    for key in keys:
        head = s3.head_object(Bucket=audit.bucket, Key=key)
        # S3 names no class where it is the usual one.
        kind = head.get("StorageClass", "STANDARD")
        if head.get("ObjectLockMode") != "COMPLIANCE" or kind != "STANDARD":
            problems.append(f"{key}: not locked, or not in STANDARD")
    return len(keys), problems


def check_roles(world: DeployedWorld) -> list[str]:
    """Calls that a role made without a permission."""
    refused = (record for record in world.aws.guard.records if not record.verdict.allowed)
    return sorted({f"{record.role} may not {record.call.action}" for record in refused})


def check_standby(world: DeployedWorld) -> list[str]:
    """What does not hold after the standby was told to rotate a credential, under the role of the stack."""
    assert world.standby  # noqa: S101 - deployed in both
    credential = world.plan.credentials[0]
    world.neglect(credential.id)
    (result,) = world.standby.call({"credential_id": credential.id, "force": True}).body["results"]
    if result["outcome"] != "rotated":
        return [
            f"{credential.id}: {result.get('error', result['outcome'])} by the standby instead of rotated"
        ]
    return check_credential(world, credential, result["generation"])


def check_digest(world: DeployedWorld) -> list[str]:
    """What does not hold after the rule of digests has fired; nothing, if there is one of every chain."""
    answer = json.loads(world.stack.call(world.stack.rule_of("digest")).payload)
    found = (answer.get("chains"), answer.get("problems"))
    problems = [] if found == (len(world.plan.credentials), []) else [f"the digest: {answer}"]
    if world.digests:
        told = world.digests.call()
        problems += [] if told.status == HTTPStatus.OK else [f"the digest of OCI: {told.text}"]
    document = printed(world, "audit", "verify", "--json", "--plan", str(world.audited))
    in_aws, *others = document["digests"]
    # That of OCI is confirmed an hour later.
    expected = Verdict.NOT_CONFIRMED if others else Verdict.VERIFIED
    if document["verdict"] != expected or not in_aws["confirmed"]:
        problems.append(f"audit verify: {document}")
    return problems


def check_logs(world: DeployedWorld) -> list[str]:
    """Functions that have written a password which an application reads now."""
    passwords = [str(world.current(c.secret_names.app_user)["password"]) for c in world.plan.credentials]
    return [
        f"{name} has logged a password"
        for name in world.stack.functions
        if any(password in world.stack.log_of(name) for password in passwords)
    ]


def main() -> int:
    """Deploy, rotate, check; the exit code."""
    began = time.monotonic()
    problems: list[str] = []
    milliseconds: list[int] = []
    with deployed_world(in_both=True) as world:
        schedules = world.stack.schedules
        if {s.input["shard"] for s in schedules} != {shard.name for shard in world.plan.shards}:
            problems.append("there is not one rule for each shard")
        for _ in range(ROUNDS):
            for schedule in schedules:
                started = time.monotonic()
                fired = world.fire(schedule)
                milliseconds.append(round((time.monotonic() - started) * 1000))
                problems += check_shard(world, schedule, fired)
        problems += check_standby(world)
        problems += check_digest(world)
        examined, unwell = check_doctor(world)
        problems += unwell
        watched, unseen = check_watch(world)
        problems += unseen
        entries, unlocked = check_audit_objects(world)
        problems += unlocked + check_roles(world) + check_logs(world)
        figures = {
            "rotations": ROUNDS * len(world.plan.credentials),
            "long_lived_runner_keys": len(world.plan.runners.secrets),
            "shard_ms": milliseconds,
            "databases": [f"{s.product} {s.version}" for s in world.servers.values()],
            "audit_entries": entries,
            "doctor": examined,
            "watch": watched,
            "calls": len(world.aws.guard.records),
            "processes": sum(f.starts for f in world.functions.values()),
            "zip_bytes": world.bundle.zip_bytes,
            "unpacked_bytes": world.bundle.unpacked_bytes,
            "seconds": {**world.seconds, "all": round(time.monotonic() - began, 1)},
        }
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 - for a person
    print(json.dumps({**figures, "problems": len(problems)}))  # noqa: T201 - for other programs
    return 1 if problems else 0


def doctor_in_cloud(world: DeployedWorld, *words: str) -> tuple[dict[str, Any], float]:
    """What `lockstep doctor --in-cloud` prints of functions and databases, and how long it took, in seconds.

    Args:
        world: What is deployed.
        words: More options.
    """
    began = time.monotonic()
    plan = str(world.folder / "plan" / "lockstep.yaml")
    only = ("--only", "inside", "--only", "database")
    document = printed(world, "doctor", "--in-cloud", "--json", "--plan", plan, *only, *words)
    return document, round(time.monotonic() - began, 1)


def printed(world: DeployedWorld, *words: str) -> dict[str, Any]:
    """The document that a command prints for an administrator, whatever it says."""
    done = lockstep({**world.aws.environment(), **world.operator}, *words)
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(done.stderr) from None
    return document


def check_doctor(world: DeployedWorld) -> tuple[Mapping[str, object], list[str]]:
    """Let the doctor look where all is well; its figures, and what it complains about."""
    document, seconds = doctor_in_cloud(world)
    problems = [
        f"doctor in {f['where']}: {f['check']}: {f['subject']}: {f['says']}"
        for f in document["findings"]
        if f["outcome"] != "passed"
    ]
    places = sorted({f["where"] for f in document["findings"]})
    return {"findings": len(document["findings"]), "places": places, "seconds": seconds}, problems


def check_watch(world: DeployedWorld) -> tuple[Mapping[str, float], list[str]]:
    """Neglect a credential until people are paged, rotate it until they hear that all is well; the minutes of each."""
    watching = Watching(world.stack, STACK)
    topic = world.stack.outputs["PageTopicArn"]
    people = Subscriber.of(world.aws, topic)
    neglected = world.plan.credentials[-1].id
    try:
        healthy = watching.look()
        world.neglect(neglected)
        to_page = watching.minutes_until(people, "Stale", "ALARM")
        world.rotate(neglected)
        to_ok = watching.minutes_until(people, "Stale", "OK")
    except NothingArrivedError as error:
        return {}, [str(error)]
    found = [f"the watch counts {name} where all is well" for name in COUNTED if healthy[name]]
    return {**healthy, "minutes_to_page": to_page, "minutes_to_ok": to_ok}, found


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m sandbox.deploy_local", description=__doc__.partition("\n")[0]
    ).parse_args()
    sys.exit(main())
