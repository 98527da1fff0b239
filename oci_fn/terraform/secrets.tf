# Secrets to fill in are created with placeholders, so that the state holds no credential. Terraform never changes their later
# content. The slots of the rings are made by
# `lockstep secrets create`, and looked up by name.

locals {
  fill_in = base64encode(jsonencode({ placeholder = "an administrator replaces this by hand" }))

  slot_names = distinct(concat(flatten(values(local.slots)), var.retired_slots))
  hand_names = distinct(concat(tolist(local.by_hand), var.retired_secrets))

  slot_ids = {
    for s in data.oci_vault_secrets.rings.secrets : s.secret_name => s.id if s.state == "ACTIVE" && s.vault_id == local.vault_id
  }
}

resource "oci_vault_secret" "by_hand" {
  for_each = toset(local.hand_names)

  compartment_id = local.own_ready
  vault_id       = local.vault_id
  key_id         = local.secrets_key_id
  secret_name    = each.key
  description    = "An administrator fills it in. Lockstep only reads it."
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags

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

  compartment_id         = local.own_ready
  vault_id               = local.vault_id
  key_id                 = local.secrets_key_id
  secret_name            = each.key
  description            = "The key that signs the audit log of Lockstep in OCI."
  enable_auto_generation = true
  freeform_tags          = local.freeform_tags
  defined_tags           = local.defined_tags

  secret_generation_context {
    generation_type     = "BYTES"
    generation_template = "BYTES_512"
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [secret_content, secret_generation_context, enable_auto_generation, metadata]
  }
}

output "secrets" {
  description = "What `lockstep secrets create` gives each slot. Hand it over with --terraform."
  value = {
    compartment_id = local.rings
    vault_id       = local.vault_id
    key_id         = local.secrets_key_id
    freeform_tags  = local.freeform_tags
    defined_tags   = local.defined_tags
  }
}
