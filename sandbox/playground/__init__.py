"""`make sandbox`: both clouds and real databases that stay up, for a person with a shell and the `lockstep` command.

`world` is what runs, and what the person's shell finds in `build/sandbox/`, `deployment` stands in for the two
deployments, and `control` takes the commands of `sandbox …` into the process that holds all of it.
"""
