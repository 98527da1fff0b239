"""Watch: look at the whole lock table, and tell what is wrong with the credentials of the plan."""
