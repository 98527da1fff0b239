# The identity of the AWS runner in OCI: a user that can only sign with an API key. The private key is stored in AWS.

resource "oci_identity_user" "aws_runner" {
  provider = oci.home

  compartment_id = var.tenancy_ocid
  name           = "${var.name}-aws-runner"
  description    = "Lockstep: the AWS runner (the state machine in AWS)."
  email          = var.aws_runner_email
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
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
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
}

resource "oci_identity_user_group_membership" "aws_runner" {
  provider = oci.home

  user_id  = oci_identity_user.aws_runner.id
  group_id = oci_identity_group.aws_runner.id
}

resource "oci_identity_policy" "aws_runner" {
  provider = oci.home

  compartment_id = local.rings
  name           = "${var.name}-aws-runner"
  description    = "Lets the AWS runner rotate the secrets of the rings."
  statements     = ["Allow group id ${oci_identity_group.aws_runner.id} ${local.ring_grant}"]
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags

  lifecycle {
    precondition {
      condition     = !contains(local.above_own, local.rings)
      error_message = "compartment_ocid: it must not be the compartment of the rings (compartment_id in the plan), or below it. A policy covers the compartments below its own, so the AWS runner would read the keys too."
    }

    precondition {
      condition     = length(local.strangers_in_rings) == 0
      error_message = "The compartment of the rings must hold nothing else, since the runners may change every secret in it. Move these to another compartment, or, if Lockstep has rotated them, list them in retired_slots: ${join(", ", local.strangers_in_rings)}."
    }

    precondition {
      condition     = length(local.unknown_names) == 0
      error_message = "adopted_secrets: the plan has no secret with this name in Vault: ${join(", ", local.unknown_names)}. Slots end in a number, such as multi-cloud.app_user.0."
    }

    precondition {
      condition     = length(local.misnamed) == 0
      error_message = "adopted_secrets: a secret is found by its name in Vault, which cannot be changed: ${join("; ", local.misnamed)}."
    }

    precondition {
      condition     = length(local.other_vault) == 0
      error_message = "adopted_secrets: Lockstep's secrets are in one vault, so adopt it with vault_ocid. In another one: ${join(", ", local.other_vault)}."
    }

    precondition {
      condition     = length(local.other_compartment) == 0
      error_message = "adopted_secrets: slots must be in the compartment of the rings, others in Lockstep's own one. Move these there (oci vault secret change-compartment): ${join(", ", local.other_compartment)}."
    }
  }
}

resource "oci_identity_policy" "aws_runner_elsewhere" {
  provider = oci.home
  for_each = local.aws_grants

  compartment_id = each.value.compartment_id
  name           = "${var.name}-aws-runner-${each.key}"
  description    = "Lets the AWS runner read the audit log of OCI, as its witness."
  statements     = [for grant in each.value.statements : "Allow group id ${oci_identity_group.aws_runner.id} ${grant}"]
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
}
