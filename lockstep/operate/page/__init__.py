"""`lockstep serve`: a page that shows the state of all credentials, live, and changes nothing."""
