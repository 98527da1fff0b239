# The standby is called half an interval after the AWS runner, which is called at midnight UTC and every interval after it.
# It rotates what AWS has left.
#
# A schedule of Resource Scheduler fires at most once an hour. So there is one schedule for each minute of the hour that
# has a trigger: with an interval of 20 minutes these are 10, 30 and 50, each in all 24 hours.

locals {
  # With an interval of more than a day the standby is called once a day and skips what is not due.
  period   = min(var.interval_minutes, 1440)
  triggers = [for i in range(floor(1440 / local.period)) : floor(local.period / 2 + i * local.period)]
  hours    = { for trigger in local.triggers : trigger % 60 => floor(trigger / 60)... }
  crons = {
    for minute, hours in local.hours : format("%02d", minute) =>
    "${minute} ${length(hours) == 24 ? "*" : join(",", hours)} * * *"
  }
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
      condition     = contains([20, 30, 60, 120, 180, 240, 360, 480, 720, 1440], local.period)
      error_message = "interval in the plan must be 20m, 30m, hours that divide a day, or whole days. Or remove runners.oci from the plan."
    }
  }
}
