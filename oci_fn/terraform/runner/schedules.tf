# When the standby is called: half an interval after AWS's trigger, so that whoever finds a credential due rotates it.
#
# A schedule of Resource Scheduler fires once an hour at the most, so every minute of the hour at which there is a
# trigger has one of its own: with an interval of 20 minutes 10, 30 and 50, each in all 24 hours.

locals {
  # A longer interval than a day is looked at once a day; what is not due is skipped.
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
  description        = "Rotates what is due, at minute ${each.key}."
  action             = "START_RESOURCE"
  recurrence_type    = "CRON"
  recurrence_details = each.value
  state              = var.paused ? "INACTIVE" : "ACTIVE"

  # Without a body: every credential of the plan.
  resources {
    id = oci_functions_function.rotate.id
  }

  lifecycle {
    precondition {
      condition     = floor(local.period) == local.period && 1440 % local.period == 0
      error_message = "interval in the plan: whole minutes that divide a day, such as 20m, 30m, 1h or 1d; or leave runners.oci out."
    }
  }
}
