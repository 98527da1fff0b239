# The audit log: a bucket of the Archive tier whose objects are written once, encrypted with a separate key.

resource "oci_kms_key" "audit" {
  count = local.audit == null ? 0 : 1

  compartment_id      = local.vault.compartment_id
  display_name        = "${var.name}-audit"
  management_endpoint = oci_kms_vault.lockstep.management_endpoint
  protection_mode     = var.key_protection

  key_shape {
    algorithm = "AES"
    length    = 32
  }

  lifecycle {
    # Without this key the log cannot be read.
    prevent_destroy = true
  }
}

resource "oci_identity_policy" "audit_key" {
  provider = oci.home
  count    = local.audit == null ? 0 : 1

  compartment_id = local.vault.compartment_id
  name           = "${var.name}-audit-key"
  description    = "Lets Object Storage encrypt the audit log with the key of the log."
  statements = [
    "Allow service objectstorage-${local.vault.region} to use keys in compartment id ${local.vault.compartment_id} where target.key.id = '${oci_kms_key.audit[0].id}'",
  ]
}

resource "oci_objectstorage_bucket" "audit" {
  count = local.audit == null ? 0 : 1

  compartment_id        = local.vault.compartment_id
  namespace             = local.audit.namespace
  name                  = local.audit.bucket
  storage_tier          = "Archive"
  versioning            = "Enabled"
  access_type           = "NoPublicAccess"
  kms_key_id            = oci_kms_key.audit[0].id
  object_events_enabled = true

  depends_on = [oci_identity_policy.audit_key]

  lifecycle {
    prevent_destroy = true

    precondition {
      condition     = local.audit.region == local.vault.region
      error_message = "audit.oci.region in the plan must be ${local.vault.region}: a bucket's key must be in the region of the bucket."
    }
  }
}
