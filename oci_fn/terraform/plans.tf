# The published plan: a bucket with versions, from which the function reads the documents of its credentials. `lockstep plan
# publish` writes them. Whoever else may write there can stop rotations and not redirect them: a document proves itself by the
# digest that the function is deployed with (docs/adr/0066-the-digest-of-the-published-plan.md).

locals {
  has_runner  = try(local.plan.runners.oci, null) != null
  plan_bucket = "${try(local.audit.bucket, "")}-plans"
  # Where the function finds the plan (lockstep/plan/published.py).
  published_plan = try(format(
    "oci://%s/%s/plans/%s?region=%s", local.audit.namespace, local.plan_bucket, var.plan_digest, local.vault.region
  ), null)
}

resource "oci_objectstorage_bucket" "plans" {
  count = local.has_runner ? 1 : 0

  compartment_id        = local.own_ready
  namespace             = local.audit.namespace
  name                  = local.plan_bucket
  storage_tier          = "Standard"
  versioning            = "Enabled"
  access_type           = "NoPublicAccess"
  kms_key_id            = local.audit_key_id
  object_events_enabled = true
  freeform_tags         = local.freeform_tags
  defined_tags          = local.defined_tags

  depends_on = [time_sleep.audit_key]

  lifecycle {
    # A roll-back reads the plan that was deployed before.
    prevent_destroy = true
  }
}
