"""`lockstep doctor` on the emulators of both clouds: where nothing is wrong, and with each thing broken in turn."""
