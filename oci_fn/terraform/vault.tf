# The vault and the key that encrypts its secrets.

resource "oci_kms_vault" "lockstep" {
  compartment_id = local.vault.compartment_id
  display_name   = var.name
  vault_type     = "DEFAULT"

  lifecycle {
    prevent_destroy = true
  }
}

resource "oci_kms_key" "secrets" {
  compartment_id      = local.vault.compartment_id
  display_name        = "${var.name}-secrets"
  management_endpoint = oci_kms_vault.lockstep.management_endpoint
  protection_mode     = var.key_protection

  key_shape {
    algorithm = "AES"
    length    = 32
  }

  lifecycle {
    prevent_destroy = true
  }
}
