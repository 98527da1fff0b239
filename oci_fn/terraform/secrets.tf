# Secrets to fill in are created with placeholders, so that the state holds no credential. Terraform never changes their later
# content. One that exists is adopted by its OCID: Terraform only looks at it. The slots of the rings are made by
# `lockstep secrets create`, and looked up by name.

locals {
  fill_in = base64encode(jsonencode({ placeholder = "an administrator replaces this by hand" }))

  slot_names = distinct(concat(flatten(values(local.slots)), var.retired_slots))
  hand_names = distinct(concat(tolist(local.by_hand), var.retired_secrets))
  adopted    = keys(var.adopted_secrets)

  slot_ids = {
    for s in data.oci_vault_secrets.rings.secrets : s.secret_name => s.id if s.state == "ACTIVE" && s.vault_id == local.vault_id
  }
  by_hand_ids = merge({ for name, s in oci_vault_secret.by_hand : name => s.id }, {
    for name in local.hand_names : name => var.adopted_secrets[name] if contains(local.adopted, name)
  })
}

resource "oci_vault_secret" "by_hand" {
  for_each = toset([for name in local.hand_names : name if !contains(local.adopted, name)])

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
  for_each = toset([for name in local.mac_secrets : name if !contains(local.adopted, name)])

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

# It has no conditions of its own: with one that refers to what is made Terraform would read it only during the apply.
data "oci_vault_secret" "adopted" {
  for_each = var.adopted_secrets

  secret_id = each.value
}

locals {
  unknown_names = setsubtract(local.adopted, concat(local.hand_names, tolist(local.mac_secrets)))
  misnamed      = [for name, s in data.oci_vault_secret.adopted : "${s.secret_id} is named ${s.secret_name}, not ${name}" if s.secret_name != name]
  other_vault   = [for name, s in data.oci_vault_secret.adopted : name if s.vault_id != local.vault_id]
  other_compartment = [
    for name, s in data.oci_vault_secret.adopted : name if s.compartment_id != local.own
  ]
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
