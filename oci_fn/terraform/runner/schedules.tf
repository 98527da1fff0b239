# The standby is called half an interval after the AWS runner, which is called at midnight UTC and every interval after it;
# at intervals above an hour every hour, half an hour after AWS may have been. It rotates what AWS has left, and looks at the
# audit log in AWS as a witness.
#
# A schedule of Resource Scheduler fires at most once an hour. So there is one schedule for each minute of the hour that
# has a trigger: with an interval of 20 minutes these are 10, 30 and 50.

locals {
  period  = min(var.interval_minutes, 60)
  minutes = [for i in range(floor(60 / local.period)) : floor(local.period / 2 + i * local.period)]
  crons   = { for minute in local.minutes : format("%02d", minute) => "${minute} * * * *" }
}

resource "oci_resource_scheduler_schedule" "standby" {
  for_each = local.crons

  compartment_id     = var.compartment_id
  display_name       = "${var.name}-standby-${each.key}"
  description        = "Calls the standby at minute ${each.key}. It rotates the credentials that are due."
  action             = "START_RESOURCE"
  recurrence_type    = "CRON"
  recurrence_details = each.value
  state              = var.paused ? "INACTIVE" : "ACTIVE"
  freeform_tags      = var.freeform_tags
  defined_tags       = var.defined_tags

  # A call without a body is for all credentials of the plan.
  resources {
    id = oci_functions_function.rotate.id
  }

  lifecycle {
    precondition {
      condition     = contains([20, 30, 60, 120, 180, 240, 360, 480, 720], var.interval_minutes) || var.interval_minutes % 1440 == 0
      error_message = "interval in the plan must be 20m, 30m, hours that divide a day, or whole days. Or remove runners.oci from the plan."
    }
  }
}
