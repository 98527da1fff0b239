output "vault_id" {
  description = "Write this OCID into the plan, as vault_id of the store of kind oci-vault."
  value       = local.vault_id
}

output "own_compartment_id" {
  description = "Write this OCID into the plan, as own_compartment_id of the store of kind oci-vault."
  value       = local.own
}

output "secrets_to_fill_in" {
  description = "Secrets that hold a placeholder. An administrator fills them in."
  value       = { for name in local.by_hand : name => oci_vault_secret.by_hand[name].id }
}

output "slots" {
  description = "The secrets that applications read, by name. The slot with the highest generation holds the current value."
  value       = { for name in flatten(values(local.slots)) : name => local.slot_ids[name] if can(local.slot_ids[name]) }
}

output "application_grants" {
  description = "The policy statements that an application needs to read a credential, without `Allow dynamic-group id …`."
  value = {
    for credential, names in local.slots : credential => [
      "to {SECRET_INSPECT} in compartment id ${local.rings}",
      format(
        "to {SECRET_BUNDLE_READ} in compartment id %s where any {%s}",
        local.rings,
        join(", ", [for name in names : "target.secret.id = '${local.slot_ids[name]}'"]),
      ),
    ] if alltrue([for name in names : can(local.slot_ids[name])])
  }
}

output "aws_runner" {
  description = "Store this with fingerprint and private_key of an API key of the user in the AWS secret oci_key_secret. Empty if the plan has runners.aws.federation."
  value       = lookup(local.users_of_keys, "writer", null)
}

output "aws_reader" {
  description = "The same for the AWS secret oci_reader_key_secret. Empty if the plan has none."
  value       = lookup(local.users_of_keys, "reader", null)
}

locals {
  users_of_keys = {
    for kind, user in oci_identity_user.aws_runner : kind => {
      tenancy = var.tenancy_ocid
      user    = user.id
      region  = local.vault.region
    }
  }
}

output "function_id" {
  description = "The function of the standby. Empty until an image is set."
  value       = one(module.runner[*].function_id)
}

output "doctor_function_id" {
  description = "The function that `lockstep doctor --in-cloud` asks: who may diagnose gets FN_INVOCATION on it, and on no other. Empty until an image is set."
  value       = one(module.runner[*].doctor_function_id)
}

output "schedules" {
  description = "Cron expressions of the standby's schedules, in UTC. That of the digests is beside them, at minute 5."
  value       = one(module.runner[*].schedules)
}

output "digest_public_key" {
  description = "Write this public key (PEM) into the plan, into audit.oci.digest_keys, where it joins those before it. Whoever verifies the audit log compares it with what they know from elsewhere."
  value       = one(data.oci_kms_key_version.digests[*].public_key)
}
