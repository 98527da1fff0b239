# The standby is called half an interval after the AWS runner. Whichever finds a credential due rotates it.
#
# A schedule of Resource Scheduler fires at most once an hour. So there is one schedule for each minute of the hour that
# has a trigger: with an interval of 20 minutes these are 10, 30 and 50, each in all 24 hours.

locals {
  # With an interval of more than a day the standby is called once a day and skips what is not due.
  period   = min(var.interval_minutes, 1440)
  offset   = coalesce(var.offset_minutes, floor(local.period / 2))
  triggers = [for i in range(floor(1440 / local.period)) : floor(local.offset + i * local.period) % 1440]
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

  # A call without a body is for all credentials of the plan.
  resources {
    id = oci_functions_function.rotate.id
  }

  lifecycle {
    precondition {
      condition     = floor(local.period) == local.period && 1440 % local.period == 0
      error_message = "interval in the plan must be whole minutes that divide a day, such as 20m, 30m, 1h or 1d. Or remove runners.oci from the plan."
    }
  }
}
