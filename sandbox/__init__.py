"""Both clouds and the databases on one machine, for the demo and the tests; never shipped."""
