# ruff: noqa: E501 - a row of a table is one line
"""The prose of docs/fleet.md (`lockstep.cli.fleet_page`)."""

TOP = """# Fleets

Made by `python -m lockstep.cli.fleet_page > docs/fleet.md`. What 10, 100, 1,000 and 10,000 credentials ask of both clouds, and what
they cost: the credentials of `lockstep.yaml` repeated, each on the databases that it has there, at an interval of 20 minutes, in both
clouds. `lockstep plan check --quotas` and `lockstep cost` show the same for your plan.

Nothing here was measured in a real account. Calls were counted on emulators of both clouds, quotas and prices are those that the
providers publish, and seconds are simulated. [What needs a real account](#what-needs-a-real-account) lists the rest, with a command
for each."""

SHARDS = """
## Shards

Credentials with the same interval are one shard, up to 200 of them; more are spread over the minutes of the interval
([R2](protocol.md)). One rule starts a shard, whose rotations begin one after the other, in the same second or up to a minute later
([ADR 70](adr/0070-rotations-begin-at-a-pace.md)). The last columns are the slowest shard around the busiest minute.
"""

CALLS = """
## Calls a second

On average over a day, and in the busiest second. Rotations by AWS, which leads; each function starts anew.
"""

DURATIONS = """
## Where rotations are faster or slower than assumed

10,000 credentials, with a bucket of 50 writes that fills by 50 a second, as Secrets Manager may have one. A step that is refused is
tried again up to four times. By a limit of how many run at once alone, without a pace, rotations would begin in waves.
"""

COSTS = """
## Costs

Each credential with its part of what is there whatever their number. From 100 credentials on, fleets differ by {percent} %.
[What it costs](cost.md) has every item and price.
"""

QUOTAS = """
## Quotas of a fleet of 10,000

The nearest first. Rates are those of the busiest minute; what they break at supposes that more credentials are spread over more
shards. Secrets are made by `lockstep provision`.
"""

BROKE_FIRST = """
## What broke first

Before shards, published plans and `lockstep provision`, this is where a larger plan broke first:

| with so many credentials | it was | now |
|---|---|---|
| 7 | the managed policy of the OCI runner | rights by prefix: the same size for every plan (`tests/infrastructure/test_cdk_sizes.py`) |
| 15 | the inline policy of Generate | likewise |
| 19 | statements of the dead-letter queue's policy | 2, whatever the plan |
| 115 | resources of the stack | secrets by `lockstep provision`, a rule for each shard |
| 118 | 1 MB of template | likewise |
| 190 | one call of the OCI function that takes over all | a dispatcher that calls itself for up to 100 credentials |
| 245 | policy statements in OCI | 16, whatever the plan (`tests/infrastructure/test_terraform_policies.py`) |
| 300 | rules on the default bus | at most 20 for each interval |
| 625 | 5,000 secrets of a tenancy in OCI | the same: Oracle raises it on request. `plan check` tells at which number |
| 1,640 | 400,000 characters of plan file | 4 million characters |
| 1,000 | 0.7 s to read the plan in each function that starts | each function reads the document of its own credential |
| 15,000 | 50 writes of Secrets Manager a second | the same, spread over all seconds. `plan check` refuses more; use a second stack in another region |"""

STACK = """
## The stack

`python -m cdk.sizes` measures resources, rules, template and policies for 1 to 10,000 credentials. From 200 credentials of an interval
on they are the same but for the rules: 20 of an interval at most. [The runbook](runbook.md) has the table."""

ASSUMPTIONS = """
## Assumptions

Each is in one place, `lockstep/cost/assumptions.py` or `lockstep/quotas/pace.py`:

- A rotation takes {seconds} s in AWS. `make bench` measures a median of 0.8 s on a loopback; functions that start anew and real
  services come on top. It decides how many may run at once, {longer} times what the pace needs, and nothing else.
- A shard begins its rotations within {window} s, so that the next one finds Secrets Manager idle.
- A rotation writes {writes} times to Secrets Manager; calls were counted on {counted_on} (`python -m sandbox.count_calls`).
- Steps take a quarter of a rotation each, half as long or half as long again by credential. All shards of a minute start in its first
  second: EventBridge spreads them more.
- A record of the lock table takes {record_us} microseconds of a processor to read in a scan.
- A child execution of a Distributed Map is charged as {child_starts} more transition than the states it enters, and a report of a
  shard takes {report_writes} writes.
- AWS leads, and the standby finds nothing to do."""

PEOPLE = """
## Commands

- `lockstep status --summary` reads the lock table in one scan and names who needs a look: one call for each megabyte of the table, about
  1,900 records. `-c 'team/*'` looks at some of them, several at the same time.
- `lockstep serve` scans the table likewise, and reads stores and logs of those that changed or are looked at.
- `lockstep pause`, `resume` and `plan activate` take patterns and `--all`, do 25 credentials at a time, tell how far they are, and can
  be repeated: what is ordered is not ordered again. An order makes 9 calls, so ten thousand take about three minutes at 60 ms each.
- `lockstep provision` makes secrets at {aws_rate} a second in AWS and {oci_rate} in OCI at most: those of 10,000 credentials in {aws_minutes}
  minutes, and their rings in {oci_hours} hours. It goes on where it was interrupted.
- After a change of the plan: `git show HEAD~:lockstep.yaml > before.yaml`, then
  `lockstep plan activate --all --from-plan before.yaml`. Each credential is activated by its next run."""

ONE_MACHINE = """
## A fleet on one machine

`make fleet` rotates 300 credentials through everything that is deployed, on emulators of both clouds and on real databases: the rules of
the shards, the state machine of the fleet, that of rotations, the functions under their roles. Applications of 12 credentials log in
all the time. The protocol runs at its own pace; only the triggers do not wait for the minutes of their phases, unless
`make fleet FLEET_ARGS=--phases`. Measured on two processors, the run alone (a load of 3 to 9, its own):

| 300 credentials in 5 shards, on MariaDB 11.8.9, PostgreSQL 15.20 and MySQL 9.7.4 | |
|---|---|
| rotated | 300 of 300 |
| seconds, from the first trigger to the last new password | 315 |
| within one interval of 20 minutes | yes |
| refused logins, of those of the applications | 0 of 7,378 |
| longest wait for a new password, from the trigger of its shard | 314 s, of one of 6 that needed a second trigger |
| Secrets Manager, writes | 1,214: 3.9 a second, 24 in the busiest second |
| Secrets Manager, all calls | 4,415: 14.0 a second, 62 in the busiest second |
| OCI Vault, retrieval and management | 7,736 and 8,444: 24.6 and 26.8 a second; a first rotation fills every slot of its rings |
| DynamoDB, S3, KMS | 2,292, 2,258 and 491: 7.3, 7.2 and 1.6 a second |
| sessions: STS, the identity domain of OCI | 138 and 132: 0.4 and 0.4 a second |

In a second round of the run four things go wrong, and no login is refused:

| what | what happens |
|---|---|
| the list of a shard is lost | its execution ends `States.ItemReaderFailed` and starts nothing; the credentials of all other shards are rotated |
| an event of a rule is delivered twice | each credential is rotated once; the second execution ends `repeated` for what was rotated before |
| Secrets Manager takes 10 writes a second | 132 writes were refused, and tried again by the runs themselves: 53 of 53 credentials were rotated |
| a credential is left out of its shard's list | the watch counts one stale credential, and names it, two intervals after its last rotation |"""

REAL_ACCOUNT = """
## What needs a real account

| unknown | what depends on it | how to know |
|---|---|---|
| rates of OCI Vault, which Oracle does not publish | the pace of rotations in OCI: see the rows of the vault above | `oci monitoring metric-data summarize-metrics-data --namespace oci_secrets --compartment-id "$C" --query-text 'ErrorCount[1m].sum()'` while a shard of 100, then of 500 credentials rotates; an answer of 429 is `StoreUnreachableError` in `lockstep history` |
| how many exchanges of a token a second an identity domain takes, which differs by its type | functions that start anew: up to 31 in the busiest second of 10,000 | `StoreThrottledError` in `lockstep history` while a shard of 200 credentials rotates after a deployment, when every function starts anew |
| how many detached calls of a function run at once | how fast the standby takes over a whole fleet | `oci monitoring metric-data summarize-metrics-data --namespace oci_faas --compartment-id "$C" --query-text 'FunctionInvocationCount[1m].grouping(responseType).count()'` after AWS's rules were disabled for an hour |
| the finest interval of Resource Scheduler, and how many schedules a tenancy may have | the turns of the standby: one schedule for each minute of the hour | `oci limits value list --service-name resource-scheduler --compartment-id "$T"`, and `oci resource-scheduler schedule create … --recurrence-details '*/20 * * * *'` |
| the memory that functions of a tenancy may use at once | 100 calls of 512 MB are 50 GB of 60 | `oci limits value list --service-name faas --compartment-id "$T"` |
| how late EventBridge starts a shard | the minute before the last start | `aws stepfunctions list-executions --state-machine-arn "$FLEET" --query 'executions[].[name,startDate]'` against the minutes of the rule |
| whether Secrets Manager takes more than 50 writes in a single second | single seconds of a fleet of 10,000 ask for more | `aws cloudwatch get-metric-data` of `AWS/Usage`, `CallCount`, `Service=Secrets Manager`, each minute; and `lockstep history` for `StoreUnreachableError` |
| whether Step Functions slows the polls of `startExecution.sync:2` | the wall of a shard | `aws stepfunctions describe-map-run --map-run-arn "$RUN"`, stop less start, against the durations of the rotations |
| what is charged for a child of a Distributed Map | about 0.055 USD a credential and month | the usage type `StepFunctions-StateTransition` in Cost Explorer, a day of a fleet of 100, divided by its rotations |
| how often functions start anew | logs, time and keys of a rotation | `aws logs filter-log-events --log-group-name "$GROUP" --filter-pattern INIT_START` |
| how long a rotation takes | `ROTATION_SECONDS` | `aws cloudwatch get-metric-statistics --namespace AWS/States --metric-name ExecutionTime --statistics Average Maximum …` |"""
