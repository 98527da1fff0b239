# The vault and the key that encrypts its secrets: made, or adopted by OCID.

resource "oci_kms_vault" "lockstep" {
  count = var.vault_ocid == null ? 1 : 0

  compartment_id = local.own_ready
  display_name   = var.name
  vault_type     = "DEFAULT"
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags

  lifecycle {
    prevent_destroy = true
  }
}

data "oci_kms_vault" "adopted" {
  count = var.vault_ocid == null ? 0 : 1

  vault_id = var.vault_ocid
}

resource "oci_kms_key" "secrets" {
  count = var.secrets_key_ocid == null ? 1 : 0

  compartment_id      = local.own_ready
  display_name        = "${var.name}-secrets"
  management_endpoint = local.management_endpoint
  protection_mode     = var.key_protection
  freeform_tags       = local.freeform_tags
  defined_tags        = local.defined_tags

  key_shape {
    algorithm = "AES"
    length    = 32
  }

  lifecycle {
    prevent_destroy = true
  }
}

locals {
  vault_id            = one(concat(oci_kms_vault.lockstep[*].id, var.vault_ocid[*]))
  management_endpoint = one(concat(oci_kms_vault.lockstep[*].management_endpoint, data.oci_kms_vault.adopted[*].management_endpoint))
  crypto_endpoint     = one(concat(oci_kms_vault.lockstep[*].crypto_endpoint, data.oci_kms_vault.adopted[*].crypto_endpoint))
  secrets_key_id      = one(concat(oci_kms_key.secrets[*].id, var.secrets_key_ocid[*]))
}
