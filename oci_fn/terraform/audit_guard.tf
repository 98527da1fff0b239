# Who may delete from the audit log and its digests, or change what protects them. The policies of the runners let neither: one
# function adds to each of the two buckets. What other policies of the tenancy allow, such as those of storage administrators, only deny policies
# take back. OCI exempts the administrators of the tenancy from them.

locals {
  # A condition on a variable that a request lacks is false. Only users have groups, so there is a statement for the others.
  but_break_glass = var.audit_break_glass_group_ocid == null ? [""] : [
    ", request.groups.id != '${coalesce(var.audit_break_glass_group_ocid, "-")}'",
    ", request.principal.type != 'user'",
  ]
  # The buckets, and who writes there.
  guarded = local.audit == null ? {} : {
    audit   = { bucket = local.audit.bucket, writer = one(module.runner[*].function_id) }
    digests = { bucket = local.digest_bucket, writer = one(module.runner[*].digest_function_id) }
  }
  has_writers = var.image != "" && local.has_runner
  in_guarded = {
    for name, place in local.guarded :
    name => "in compartment id ${local.own} where all {target.bucket.name = '${place.bucket}'"
  }

  # Delete an entry or a version, replace one by its tier, let others do it, or change versions, life cycle or retention.
  deletion = join(", ", [
    "OBJECT_DELETE",
    "OBJECT_VERSION_DELETE",
    "OBJECT_UPDATE_TIER",
    "BUCKET_UPDATE",
    "BUCKET_DELETE",
    "RETENTION_RULE_MANAGE",
    "RETENTION_RULE_LOCK",
    "PAR_MANAGE",
  ])
}

resource "oci_identity_policy" "audit_break_glass" {
  provider = oci.home
  for_each = { for name, place in local.guarded : name => place if var.audit_break_glass_group_ocid != null }

  compartment_id = local.own
  name           = "${var.name}-${each.key}-break-glass"
  description    = "Lets the break-glass group delete from this bucket of the audit log, and change what protects it."
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
  statements = [
    "Allow group id ${var.audit_break_glass_group_ocid} to {BUCKET_READ, OBJECT_INSPECT, OBJECT_DELETE, OBJECT_VERSION_DELETE, BUCKET_UPDATE, BUCKET_DELETE, RETENTION_RULE_MANAGE} ${local.in_guarded[each.key]}}",
  ]
}

resource "oci_identity_policy" "audit_deny" {
  provider = oci.home
  for_each = { for name, place in local.guarded : name => place if var.audit_deny_policies }

  compartment_id = local.own
  name           = "${var.name}-${each.key}-deny"
  description    = "Denies everybody but the break-glass group to delete from this bucket of the audit log, and all but its function to write there."
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
  statements = concat(
    [for condition in local.but_break_glass : "Deny any-user to {${local.deletion}} ${local.in_guarded[each.key]}${condition}}"],
    ["Deny any-user to {OBJECT_CREATE, OBJECT_OVERWRITE} ${local.in_guarded[each.key]}${local.has_writers ? ", request.principal.id != '${each.value.writer}'" : ""}}"],
  )
}
