# The users of the AWS runner in OCI: each can only sign with API keys, whose private halves are in AWS. With a reader the
# functions that write nothing in OCI have a user of their own.

variable "aws_runner_public_key" {
  description = "The public key (PEM) of the first API key of the AWS runner's user. If it is not set, upload the key by hand. Later keys are uploaded by hand, too."
  type        = string
  default     = null

  validation {
    condition     = var.aws_runner_public_key == null || can(regex("^-----BEGIN PUBLIC KEY-----", var.aws_runner_public_key))
    error_message = "aws_runner_public_key must be PEM that begins with -----BEGIN PUBLIC KEY-----. Never enter the private key."
  }
}

variable "aws_reader_public_key" {
  description = "The same for the user who only reads, if the plan has oci_reader_key_secret."
  type        = string
  default     = null

  validation {
    condition     = var.aws_reader_public_key == null || can(regex("^-----BEGIN PUBLIC KEY-----", var.aws_reader_public_key))
    error_message = "aws_reader_public_key must be PEM that begins with -----BEGIN PUBLIC KEY-----. Never enter the private key."
  }
}

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
        public_key  = var.aws_runner_public_key
      }
      reader = {
        name        = "${var.name}-aws-reader"
        description = "Lockstep: the functions of the AWS runner that write nothing in OCI."
        public_key  = var.aws_reader_public_key
      }
    } : kind => user if contains(local.kinds_of_users, kind)
  }
  kinds_of_users = concat(
    local.to_oci == null ? ["writer"] : [],
    try(local.plan.runners.aws.oci_reader_key_secret, null) != null ? ["reader"] : [],
    var.keep_api_keys,
  )

  # Terraform uploads the first key of a user and no later one: a person uploads the next and deletes the one before, and
  # Terraform would bring it back.
  known_users = {
    for kind, found in data.oci_identity_users.aws_runner : kind => one([for user in found.users : user.id if user.state == "ACTIVE"])
  }
  keys_there = {
    for kind, found in data.oci_identity_api_keys.aws_runner : kind => [for key in found.api_keys : replace(key.key_value, "/\\s/", "")]
  }
  first_keys = {
    for kind, user in local.key_users : kind => user.public_key
    if user.public_key != null && (
      length(lookup(local.keys_there, kind, [])) == 0 ||
      contains(lookup(local.keys_there, kind, []), replace(coalesce(user.public_key, "-"), "/\\s/", ""))
    )
  }
}

# Looked up by name, so that it is known before a user is made.
data "oci_identity_users" "aws_runner" {
  provider = oci.home
  for_each = local.key_users

  compartment_id = var.tenancy_ocid
  name           = each.value.name
}

data "oci_identity_api_keys" "aws_runner" {
  provider = oci.home
  for_each = { for kind, id in local.known_users : kind => id if id != null }

  user_id = each.value
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

resource "oci_identity_api_key" "aws_runner" {
  provider = oci.home
  for_each = local.first_keys

  user_id   = oci_identity_user.aws_runner[each.key].id
  key_value = each.value

  lifecycle {
    # While it signs. A person replaces it, and Terraform then forgets it.
    prevent_destroy = true
    ignore_changes  = [key_value]
  }
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

moved {
  from = oci_identity_user.aws_runner
  to   = oci_identity_user.aws_runner["writer"]
}

moved {
  from = oci_identity_user_capabilities_management.aws_runner
  to   = oci_identity_user_capabilities_management.aws_runner["writer"]
}

moved {
  from = oci_identity_api_key.aws_runner[0]
  to   = oci_identity_api_key.aws_runner["writer"]
}

moved {
  from = oci_identity_group.aws_runner
  to   = oci_identity_group.aws_runner["writer"]
}

moved {
  from = oci_identity_user_group_membership.aws_runner
  to   = oci_identity_user_group_membership.aws_runner["writer"]
}
