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
  compartment_id             = local.own_ready
  image                      = var.image
  image_digest               = var.image_digest
  published_plan             = local.published_plan
  memory_in_mbs              = var.memory_in_mbs
  subnet_ids                 = var.subnet_ids
  network_security_group_ids = var.network_security_group_ids
  credentials = {
    for minutes in distinct(local.intervals) : minutes => length([for i in local.intervals : i if i == minutes])
  }
  paused             = var.paused
  log_retention_days = var.log_retention_days
  alarm_email        = var.alarm_email
  topic_ocid         = var.topic_ocid
  runbook_url        = var.runbook_url
  shape              = var.shape
  freeform_tags      = local.freeform_tags
  defined_tags       = local.defined_tags

  # Of the issuer's key not its version: that changes with each new version.
  in_plan = {
    vault_id                              = local.vault.vault_id
    own_compartment_id                    = try(local.vault.own_compartment_id, "nothing")
    "runners.oci.federation.key.endpoint" = try(local.to_aws.key.endpoint, null)
  }
  made = merge(
    { vault_id = local.vault_id, own_compartment_id = local.own },
    local.to_aws == null ? {} : { "runners.oci.federation.key.endpoint" = local.crypto_endpoint },
  )
  issuer_key = local.to_aws == null ? null : { in_plan = try(local.to_aws.key.id, "nothing"), made = local.issuer_key_id }

  missing       = local.missing_for_sessions
  grants        = local.runner_grants
  strangers     = local.strangers_in_own
  digest_key    = "${local.digest_key_id}@${local.crypto_endpoint}"
  digest_grants = local.digest_grants
}
