# The audit log: a bucket of the Archive tier whose objects are written once, encrypted with a separate key.
# It has a retention rule, or for a trial keeps versions instead: OCI does not take both. audit_guard.tf says who may delete.

locals {
  makes_audit_key = local.audit != null && var.audit_key_ocid == null
  audit_key_id    = one(concat(oci_kms_key.audit[*].id, local.audit != null ? var.audit_key_ocid[*] : []))

  # Whole days, as many as nobody can delete an entry in AWS.
  retention_days = ceil(sum([
    for part in regexall("([0-9]+) ?([smhd])", try(local.plan.audit.aws.retention, "400d")) : part[0] * local.unit_minutes[part[1]]
  ]) / local.unit_minutes.d)
  retention_rules = var.audit_versions ? [] : [local.retention_days]
}

resource "oci_kms_key" "audit" {
  count = local.makes_audit_key ? 1 : 0

  compartment_id      = local.own_ready
  display_name        = "${var.name}-audit"
  management_endpoint = local.management_endpoint
  protection_mode     = var.key_protection
  freeform_tags       = local.freeform_tags
  defined_tags        = local.defined_tags

  key_shape {
    algorithm = "AES"
    length    = 32
  }

  lifecycle {
    # Without this key the log cannot be read.
    prevent_destroy = true
  }
}

# The owner of an adopted key has a policy of their own.
resource "oci_identity_policy" "audit_key" {
  provider = oci.home
  count    = local.makes_audit_key ? 1 : 0

  compartment_id = local.own
  name           = "${var.name}-audit-key"
  description    = "Lets Object Storage encrypt the audit log with the key of the log."
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
  statements = [
    "Allow service objectstorage-${local.vault.region} to use keys in compartment id ${local.own} where target.key.id = '${oci_kms_key.audit[0].id}'",
  ]
}

# Object Storage refuses a key until it knows the policy, and the provider does not repeat that refusal.
resource "time_sleep" "audit_key" {
  count = local.makes_audit_key ? 1 : 0

  create_duration = var.identity_delay
  triggers        = { statements = join("\n", oci_identity_policy.audit_key[0].statements) }
}

resource "oci_objectstorage_bucket" "audit" {
  count = local.audit == null ? 0 : 1

  compartment_id        = local.own_ready
  namespace             = local.audit.namespace
  name                  = local.audit.bucket
  storage_tier          = "Archive"
  versioning            = var.audit_versions ? "Enabled" : "Disabled"
  access_type           = "NoPublicAccess"
  kms_key_id            = local.audit_key_id
  object_events_enabled = true
  freeform_tags         = local.freeform_tags
  defined_tags          = local.defined_tags

  dynamic "retention_rules" {
    for_each = local.retention_rules

    content {
      display_name     = "${var.name}-audit"
      time_rule_locked = var.audit_retention_locked_from

      duration {
        time_amount = tostring(retention_rules.value)
        time_unit   = "DAYS"
      }
    }
  }

  depends_on = [time_sleep.audit_key]

  lifecycle {
    prevent_destroy = true

    precondition {
      condition     = var.audit_retention_locked_from == null || !var.audit_versions
      error_message = "audit_retention_locked_from locks a retention rule, and with audit_versions there is none."
    }
  }
}
