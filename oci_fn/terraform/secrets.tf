# Secrets are created with placeholders, so that the state holds no credential. Terraform never changes their later content.

locals {
  placeholder = base64encode(jsonencode({ placeholder = "the first rotation replaces this" }))
  fill_in     = base64encode(jsonencode({ placeholder = "an administrator replaces this by hand" }))
}

resource "oci_vault_secret" "slot" {
  for_each = toset(flatten(values(local.slots)))

  compartment_id = local.vault.compartment_id
  vault_id       = oci_kms_vault.lockstep.id
  key_id         = oci_kms_key.secrets.id
  secret_name    = each.key
  description    = "A slot of a ring. Lockstep rotates it."

  secret_content {
    content_type = "BASE64"
    content      = local.placeholder
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [secret_content, metadata]
  }
}

resource "oci_vault_secret" "by_hand" {
  for_each = local.by_hand

  compartment_id = local.vault.compartment_id
  vault_id       = oci_kms_vault.lockstep.id
  key_id         = oci_kms_key.secrets.id
  secret_name    = each.key
  description    = "An administrator fills it in. Lockstep only reads it."

  secret_content {
    content_type = "BASE64"
    content      = local.fill_in
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [secret_content, metadata]
  }
}

# The key that signs the audit log. OCI generates it, so no person has seen it.
resource "oci_vault_secret" "mac" {
  for_each = local.mac_secrets

  compartment_id         = local.vault.compartment_id
  vault_id               = oci_kms_vault.lockstep.id
  key_id                 = oci_kms_key.secrets.id
  secret_name            = each.key
  description            = "The key that signs the audit log of Lockstep in OCI."
  enable_auto_generation = true

  secret_generation_context {
    generation_type     = "BYTES"
    generation_template = "BYTES_512"
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [secret_content, secret_generation_context, enable_auto_generation, metadata]
  }
}
