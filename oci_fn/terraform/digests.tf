# The digests of the audit log, one an hour: a bucket where each can be read at once, which the audit log's tier does not allow, and
# a key that signs them and nothing else. Whoever verifies needs its public half, which the plan has.

locals {
  digest_bucket = "${try(local.audit.bucket, "")}-digests"
  in_digests    = "in compartment id ${local.own} where target.bucket.name = '${local.digest_bucket}'"
  digest_key_id = one(oci_kms_key.digests[*].id)

  # The secrets that the function reads: the keys that sign entries, and without sessions the access key for AWS. No login.
  digest_secret_names = [
    for name in concat(
      tolist(local.mac_secrets), try(local.audit.retired_mac_secrets, []), compact([try(local.plan.runners.oci.aws_key_secret, null)]),
    ) : replace(name, "/", ".")
  ]
  own_secret_ids = merge(
    { for s in data.oci_vault_secrets.own.secrets : s.secret_name => s.id if s.state == "ACTIVE" && s.vault_id == local.vault_id },
    { for name, s in oci_vault_secret.mac : name => s.id },
    { for name, s in oci_vault_secret.by_hand : name => s.id },
  )

  # What it may, by the compartment to which the policy is attached. It adds nothing to the audit log.
  digest_grants = merge(local.plan_grants, local.issuer_grants, {
    audit = {
      compartment_id = local.own
      statements     = ["to {OBJECT_INSPECT} ${local.in_audit_log}"]
    }
    digests = {
      compartment_id = local.own
      statements     = ["to {OBJECT_CREATE, OBJECT_INSPECT, OBJECT_READ} ${local.in_digests}"]
    }
    own = {
      compartment_id = local.own
      statements = [
        "to {SECRET_INSPECT} in compartment id ${local.own}",
        format(
          "to {SECRET_BUNDLE_READ} in compartment id %s where any {%s}", local.own,
          join(", ", [for name in local.digest_secret_names : "target.secret.id = '${local.own_secret_ids[name]}'" if can(local.own_secret_ids[name])]),
        ),
        "to {KEY_READ, KEY_SIGN} in compartment id ${local.own} where target.key.id = '${coalesce(local.digest_key_id, "-")}'",
      ]
    }
  })

  # Who reads the digests for AWS, which confirms them: with sessions the function that makes those of AWS.
  digest_readers = ["digest", contains(local.kinds_of_users, "reader") ? "reader" : "writer"]
  aws_on_digests = local.audit == null ? [] : [
    for name, who in local.aws_principals : format(
      "Allow %s to {OBJECT_INSPECT, OBJECT_READ} in compartment id %s where all {%s}", who.subject, local.own,
      join(", ", concat(["target.bucket.name = '${local.digest_bucket}'"], who.conditions)),
    ) if contains(local.digest_readers, name)
  ]
}

resource "oci_kms_key" "digests" {
  count = local.audit == null ? 0 : 1

  compartment_id      = local.own_ready
  display_name        = "${var.name}-digests"
  management_endpoint = local.management_endpoint
  # A key that is protected by software can be exported.
  protection_mode = "HSM"
  freeform_tags   = local.freeform_tags
  defined_tags    = local.defined_tags

  key_shape {
    algorithm = "RSA"
    length    = 256
  }

  lifecycle {
    prevent_destroy = true
  }
}

data "oci_kms_key_version" "digests" {
  count = local.audit == null ? 0 : 1

  key_id              = local.digest_key_id
  key_version_id      = oci_kms_key.digests[0].current_key_version
  management_endpoint = local.management_endpoint
}

resource "oci_objectstorage_bucket" "digests" {
  count = local.audit == null ? 0 : 1

  compartment_id        = local.own_ready
  namespace             = local.audit.namespace
  name                  = local.digest_bucket
  storage_tier          = "Standard"
  versioning            = var.audit_versions ? "Enabled" : "Disabled"
  access_type           = "NoPublicAccess"
  kms_key_id            = local.audit_key_id
  object_events_enabled = true
  freeform_tags         = local.freeform_tags
  defined_tags          = local.defined_tags

  dynamic "retention_rules" {
    for_each = local.retention_rules

    content {
      display_name     = "${var.name}-digests"
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
  }
}

resource "oci_identity_policy" "aws_reads_digests" {
  provider = oci.home
  count    = length(local.aws_on_digests) > 0 ? 1 : 0

  compartment_id = local.own
  name           = "${var.name}-aws-reads-digests"
  description    = "Lets the AWS runner read the digests of OCI, which those of AWS confirm."
  statements     = local.aws_on_digests
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
}
