# The users of the AWS runner in OCI: each can only sign with API keys, which people upload. With a reader the
# functions that write nothing in OCI have a user of their own.

variable "aws_runner_email" {
  description = "The e-mail address of the AWS runner's users, if the identity domain requires one."
  type        = string
  default     = null
}

variable "keep_api_keys" {
  description = "Users of an earlier plan that stay, with their API keys, while the stack in AWS goes on to sessions: writer, reader."
  type        = list(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.keep_api_keys, ["writer", "reader"])) == 0
    error_message = "keep_api_keys must be writer, reader, or both."
  }
}

locals {
  key_users = {
    for kind, user in {
      writer = {
        name        = "${var.name}-aws-runner"
        description = "Lockstep: the AWS runner (the state machine in AWS)."
      }
      reader = {
        name        = "${var.name}-aws-reader"
        description = "Lockstep: the functions of the AWS runner that write nothing in OCI."
      }
    } : kind => user if contains(local.kinds_of_users, kind)
  }
  kinds_of_users = concat(
    local.to_oci == null ? ["writer"] : [],
    try(local.plan.runners.aws.oci_reader_key_secret, null) != null ? ["reader"] : [],
    var.keep_api_keys,
  )
}

resource "oci_identity_user" "aws_runner" {
  provider = oci.home
  for_each = local.key_users

  compartment_id = var.tenancy_ocid
  name           = each.value.name
  description    = each.value.description
  email          = var.aws_runner_email
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
}

resource "oci_identity_user_capabilities_management" "aws_runner" {
  provider = oci.home
  for_each = local.key_users

  user_id                      = oci_identity_user.aws_runner[each.key].id
  can_use_api_keys             = true
  can_use_auth_tokens          = false
  can_use_console_password     = false
  can_use_customer_secret_keys = false
  can_use_smtp_credentials     = false
}

resource "oci_identity_group" "aws_runner" {
  provider = oci.home
  for_each = local.key_users

  compartment_id = var.tenancy_ocid
  name           = each.value.name
  description    = each.value.description
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
}

resource "oci_identity_user_group_membership" "aws_runner" {
  provider = oci.home
  for_each = local.key_users

  user_id  = oci_identity_user.aws_runner[each.key].id
  group_id = oci_identity_group.aws_runner[each.key].id
}
