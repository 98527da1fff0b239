"""OpenTelemetry: one trace of each rotation. Off unless the environment names a collector (`lockstep.wiring`).

No step and no adapter knows of it. `ports` puts a recorder around the ports of a run, `traces` spans around its steps.
What was recorded is sent when the invocation is over, by a process of its own: OpenTelemetry is never loaded beside a
rotation, and whatever the collector does, the function goes on after SEND_SECONDS.

A span holds names of the plan, ids of runs, times, truth values and names of error classes: never an argument, and of
what was returned only a truth value. So no password, username or statement can be in one (protocol I6).
"""
