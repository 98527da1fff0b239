# The standby is called half an interval after the AWS runner triggers a shard of credentials; at intervals above an hour every
# hour, half an hour after AWS may have been. It rotates what AWS has left.
#
# A schedule of Resource Scheduler fires at most once an hour. So there is one schedule for each minute of the hour at which some
# shard has its turn: with one shard and an interval of 20 minutes these are 10, 30 and 50. Up to 200 credentials of an interval are
# one shard, more of them are 5, 10 or 20 (lockstep/protocol/schedule.py).

locals {
  intervals = { for minutes in keys(var.credentials) : minutes => tonumber(minutes) }
  shards = {
    for minutes, number in var.credentials : minutes => min([for count in [1, 5, 10, 20] : count if number <= count * 200 || count == 20]...)
  }
  called_every = { for minutes, interval in local.intervals : minutes => min(interval, 60) }
  minutes = distinct(flatten([
    for minutes, every in local.called_every : [
      for shard in range(local.shards[minutes]) : [
        # The shard's phase, half an interval, and each call of the hour.
        for call in range(floor(60 / every)) : (
          floor(min(local.intervals[minutes], 1440) * floor(shard * 20 / local.shards[minutes]) / 20) + floor(every / 2) + call * every
        ) % 60
      ]
    ]
  ]))
  crons  = { for minute in local.minutes : format("%02d", minute) => "${minute} * * * *" }
  period = min(values(local.called_every)...)
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
      condition     = alltrue([for interval in values(local.intervals) : contains([20, 30, 60, 120, 180, 240, 360, 480, 720], interval) || interval % 1440 == 0])
      error_message = "interval in the plan must be 20m, 30m, hours that divide a day, or whole days. Or remove runners.oci from the plan."
    }
  }
}

# Whatever is paused: what stands still is evidence too. At minute 15 the stack in AWS makes its own digest, which confirms this one.
resource "oci_resource_scheduler_schedule" "digest" {
  compartment_id     = var.compartment_id
  display_name       = "${var.name}-digest"
  description        = "Calls the function that makes a digest of the audit log."
  action             = "START_RESOURCE"
  recurrence_type    = "CRON"
  recurrence_details = "5 * * * *"
  state              = "ACTIVE"
  freeform_tags      = var.freeform_tags
  defined_tags       = var.defined_tags

  resources {
    id = oci_functions_function.digest.id
  }
}
