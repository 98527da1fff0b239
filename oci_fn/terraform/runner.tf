# The OCI runner. It is created if the plan has runners.oci and an image is set.

module "runner" {
  source = "./runner"
  count  = var.image == "" || try(local.plan.runners.oci, null) == null ? 0 : 1

  providers = {
    oci      = oci
    oci.home = oci.home
  }

  name                       = var.name
  tenancy_ocid               = var.tenancy_ocid
  compartment_id             = local.vault.compartment_id
  image                      = var.image
  image_digest               = var.image_digest
  memory_in_mbs              = var.memory_in_mbs
  subnet_ids                 = var.subnet_ids
  network_security_group_ids = var.network_security_group_ids
  interval_minutes           = min(local.intervals...)
  paused                     = var.paused
  log_retention_days         = var.log_retention_days
  alarm_email                = var.alarm_email
  vault_id                   = oci_kms_vault.lockstep.id
  vault_id_in_plan           = local.vault.vault_id

  grants = concat(local.ring_grants, [
    format(
      "to {SECRET_BUNDLE_READ} %s where any {%s}",
      local.in_compartment,
      join(", ", [for id in local.read_ids : "target.secret.id = '${id}'"]),
    ),
    "to {OBJECT_CREATE, OBJECT_INSPECT} ${local.in_compartment} where target.bucket.name = '${one(oci_objectstorage_bucket.audit[*].name)}'",
  ])
}
