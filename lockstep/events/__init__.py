"""Events: what other programs are told after it has happened, as CloudEvents. Nothing of Lockstep waits for one."""
