# The issuer of the function's tokens for AWS, instead of an access key: a key that signs and cannot be exported, and a public bucket
# with its documents, which `lockstep identity publish` writes. Whoever may write there can make tokens that AWS takes for the
# function's, so no policy of Lockstep lets anybody.

variable "adopt_issuer" {
  description = "Whether the documents of the issuer that the plan names are elsewhere: in a bucket that exists, or on a server of your own."
  type        = bool
  default     = false
}

variable "keep_issuer" {
  description = "The name of the issuer's bucket, where the issuer is to be there without runners.oci.federation in the plan: before the function goes over to sessions, and after it has gone back to a key."
  type        = string
  default     = null
}

locals {
  to_aws       = try(local.plan.runners.oci.federation, null)
  has_issuer   = local.to_aws != null || (var.keep_issuer != null && local.audit != null)
  makes_issuer = local.has_issuer && !var.adopt_issuer

  # The bucket in the plan's address of the issuer.
  issuer_place  = try(regex("^https://(?:[a-z0-9-]+\\.)?objectstorage\\.(?P<region>[a-z0-9-]+)\\.(?:oraclecloud|oci\\.customer-oci)\\.com/n/(?P<namespace>[^/]+)/b/(?P<bucket>[^/]+)/o(?:/[^/]+)*$", local.to_aws.issuer), null)
  issuer_bucket = try(local.issuer_place.bucket, coalesce(var.keep_issuer, "${var.name}-issuer"))
  issuer        = try("https://objectstorage.${local.vault.region}.oraclecloud.com/n/${local.audit.namespace}/b/${local.issuer_bucket}/o", null)

  issuer_key_id = one(oci_kms_key.issuer[*].id)
}

resource "oci_kms_key" "issuer" {
  count = local.has_issuer ? 1 : 0

  compartment_id      = local.own_ready
  display_name        = "${var.name}-issuer"
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
    # Without it the standby reaches AWS no more.
    prevent_destroy = true
  }
}

resource "oci_objectstorage_bucket" "issuer" {
  count = local.makes_issuer ? 1 : 0

  compartment_id        = local.own_ready
  namespace             = local.audit.namespace
  name                  = local.issuer_bucket
  storage_tier          = "Standard"
  versioning            = "Enabled"
  access_type           = "ObjectReadWithoutList"
  object_events_enabled = true
  freeform_tags         = local.freeform_tags
  defined_tags          = local.defined_tags

  lifecycle {
    # AWS trusts whoever has this name.
    prevent_destroy = true

    precondition {
      condition     = local.to_aws == null || try(local.issuer_place.region == local.vault.region && local.issuer_place.namespace == local.audit.namespace, false)
      error_message = "runners.oci.federation.issuer in the plan: ${coalesce(local.issuer, "another one")} is expected. For documents elsewhere set adopt_issuer."
    }
  }
}

# What other policies of the tenancy allow, such as those of storage administrators (audit_guard.tf).
resource "oci_identity_policy" "issuer_deny" {
  provider = oci.home
  count    = local.makes_issuer && var.audit_deny_policies ? 1 : 0

  compartment_id = local.own
  name           = "${var.name}-issuer-deny"
  description    = "Denies everybody but the break-glass group to change the documents of the issuer."
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
  statements = [
    for condition in local.but_break_glass : format(
      "Deny any-user to {%s} in compartment id %s where all {target.bucket.name = '%s'%s}",
      "OBJECT_CREATE, OBJECT_OVERWRITE, OBJECT_DELETE, OBJECT_VERSION_DELETE, BUCKET_UPDATE, BUCKET_DELETE, PAR_MANAGE",
      local.own, local.issuer_bucket, condition,
    )
  ]
}

output "runners_oci_federation" {
  description = "Write this into the plan, as runners.oci.federation: key.id, key.version and key.endpoint. Empty if there is no issuer."
  value = !local.has_issuer ? null : {
    issuer   = try(local.to_aws.issuer, local.issuer)
    key      = { id = local.issuer_key_id, version = oci_kms_key.issuer[0].current_key_version, endpoint = local.crypto_endpoint }
    role_arn = try(local.to_aws.role_arn, null)
  }
}
