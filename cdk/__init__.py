"""The AWS stack, made from the plan, and what is shipped to Lambda and to OCI Functions."""
