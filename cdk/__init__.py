"""The AWS stack, built from the plan, and the bundle for Lambda and OCI Functions."""
