# Who may delete from the audit log, or change what protects it. The policies of the runners let neither: the OCI runner adds,
# the AWS runner reads. What other policies of the tenancy allow, such as those of storage administrators, only deny policies
# take back. OCI exempts the administrators of the tenancy from them.

locals {
  guards = local.audit != null && var.audit_deny_policies

  # A condition on a variable that a request lacks is false. Only users have groups, so there is a statement for the others.
  but_break_glass = var.audit_break_glass_group_ocid == null ? [""] : [
    ", request.groups.id != '${coalesce(var.audit_break_glass_group_ocid, "-")}'",
    ", request.principal.type != 'user'",
  ]
  but_function = var.image == "" || try(local.plan.runners.oci, null) == null ? "" : ", request.principal.id != '${one(module.runner[*].function_id)}'"

  where_in_audit_log = "in compartment id ${coalesce(local.bucket_compartment, local.own)} where all {target.bucket.name = '${try(local.audit.bucket, "")}'"

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
  count    = local.audit == null || var.audit_break_glass_group_ocid == null ? 0 : 1

  compartment_id = local.bucket_compartment
  name           = "${var.name}-audit-break-glass"
  description    = "Lets the break-glass group delete entries of the audit log, and change what protects it."
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
  statements = [
    "Allow group id ${var.audit_break_glass_group_ocid} to {BUCKET_READ, OBJECT_INSPECT, OBJECT_DELETE, OBJECT_VERSION_DELETE, BUCKET_UPDATE, BUCKET_DELETE, RETENTION_RULE_MANAGE} ${local.in_audit_log}",
  ]
}

resource "oci_identity_policy" "audit_deny" {
  provider = oci.home
  count    = local.guards ? 1 : 0

  compartment_id = local.bucket_compartment
  name           = "${var.name}-audit-deny"
  description    = "Denies everybody but the break-glass group to delete from the audit log, and all but the function to write to it."
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags
  statements = concat(
    [for condition in local.but_break_glass : "Deny any-user to {${local.deletion}} ${local.where_in_audit_log}${condition}}"],
    ["Deny any-user to {OBJECT_CREATE, OBJECT_OVERWRITE} ${local.where_in_audit_log}${local.but_function}}"],
  )
}
