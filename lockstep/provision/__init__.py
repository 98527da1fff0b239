"""Makes the secrets of credentials, which no stack of CloudFormation or Terraform is large enough for (ADR 68).

`decide` says what becomes of one secret and knows no cloud. `work` does it for all of them: side by side, paced, and so
that it can be stopped and repeated at any point. The adapters are `lockstep.aws.made_secrets` and
`lockstep.oci.made_slots`.
"""
