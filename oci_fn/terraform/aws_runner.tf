# The identity of the AWS runner in OCI: a user that can only sign with an API key. The private key is stored in AWS.

resource "oci_identity_user" "aws_runner" {
  provider = oci.home

  compartment_id = var.tenancy_ocid
  name           = "${var.name}-aws-runner"
  description    = "Lockstep: the AWS runner (the state machine in AWS)."
  email          = var.aws_runner_email
}

resource "oci_identity_user_capabilities_management" "aws_runner" {
  provider = oci.home

  user_id                      = oci_identity_user.aws_runner.id
  can_use_api_keys             = true
  can_use_auth_tokens          = false
  can_use_console_password     = false
  can_use_customer_secret_keys = false
  can_use_smtp_credentials     = false
}

resource "oci_identity_api_key" "aws_runner" {
  provider = oci.home
  count    = var.aws_runner_public_key == null ? 0 : 1

  user_id   = oci_identity_user.aws_runner.id
  key_value = var.aws_runner_public_key
}

resource "oci_identity_group" "aws_runner" {
  provider = oci.home

  compartment_id = var.tenancy_ocid
  name           = "${var.name}-aws-runner"
  description    = "Lockstep: the AWS runner (the state machine in AWS)."
}

resource "oci_identity_user_group_membership" "aws_runner" {
  provider = oci.home

  user_id  = oci_identity_user.aws_runner.id
  group_id = oci_identity_group.aws_runner.id
}

resource "oci_identity_policy" "aws_runner" {
  provider = oci.home

  compartment_id = local.vault.compartment_id
  name           = "${var.name}-aws-runner"
  description    = "Lets the AWS runner rotate the secrets of the rings, and do nothing else."
  statements     = [for grant in local.ring_grants : "Allow group id ${oci_identity_group.aws_runner.id} ${grant}"]
}
