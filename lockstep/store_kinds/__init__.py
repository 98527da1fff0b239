"""The kinds of store that a plan can name.

A kind is one class: its keys in the plan file and its checks. To add a kind, write that class, add it to
`lockstep.store_kinds.kinds`, what a runner needs of it to `lockstep.compiled`, and its adapter to
`lockstep.clouds.open_secret`.
"""
