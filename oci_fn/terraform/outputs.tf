output "vault_id" {
  description = "Goes into the plan: vault_id of the store of kind oci-vault."
  value       = oci_kms_vault.lockstep.id
}

output "secrets_to_fill_in" {
  description = "Hold placeholders until an administrator replaces them."
  value       = { for name, secret in oci_vault_secret.by_hand : name => secret.id }
}

output "slots" {
  description = "The secrets that applications read, by name; the ring's value is the one with the highest generation."
  value       = { for name, secret in oci_vault_secret.slot : name => secret.id }
}

output "application_grants" {
  description = "What an application that reads a credential may be given, after `Allow dynamic-group id …`."
  value = {
    for credential, names in local.slots : credential => [
      "to {SECRET_INSPECT} ${local.in_compartment}",
      format(
        "to {SECRET_BUNDLE_READ} %s where any {%s}",
        local.in_compartment,
        join(", ", [for name in names : "target.secret.id = '${oci_vault_secret.slot[name].id}'"]),
      ),
    ]
  }
}

output "aws_runner" {
  description = "Goes, with the private key, into the secret oci_key_secret in AWS; no fingerprint: the key is uploaded by hand."
  value = {
    tenancy     = var.tenancy_ocid
    user        = oci_identity_user.aws_runner.id
    fingerprint = one(oci_identity_api_key.aws_runner[*].fingerprint)
    region      = local.vault.region
  }
}

output "function_id" {
  description = "The standby; none without an image."
  value       = one(module.runner[*].function_id)
}

output "schedules" {
  description = "When the standby is triggered, UTC."
  value       = one(module.runner[*].schedules)
}
