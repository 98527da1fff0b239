"""One driver per engine, behind `lockstep.ports.Database`."""
