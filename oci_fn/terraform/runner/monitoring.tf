# Topic, alarms and log.

locals {
  # Three missed triggers. An alarm takes up to 60 minutes, or whole hours up to a day.
  silence_minutes  = min(3 * local.period, 1440)
  silence_interval = local.silence_minutes <= 60 ? "${local.silence_minutes}m" : "${ceil(local.silence_minutes / 60)}h"
}

resource "oci_ons_notification_topic" "alarms" {
  compartment_id = var.compartment_id
  name           = "${var.name}-alarms"
  description    = "Alarms of Lockstep in OCI, and failed runs."
}

resource "oci_ons_subscription" "email" {
  count = var.alarm_email == null ? 0 : 1

  compartment_id = var.compartment_id
  topic_id       = oci_ons_notification_topic.alarms.id
  protocol       = "EMAIL"
  endpoint       = var.alarm_email
}

resource "oci_monitoring_alarm" "absent" {
  compartment_id        = var.compartment_id
  metric_compartment_id = var.compartment_id
  display_name          = "${var.name}: the standby was not called"
  body                  = "Resource Scheduler has missed three triggers. AWS goes on rotating, but the standby would not take over."
  namespace             = "oci_faas"
  # The alarm stays for three days without a call.
  query            = "FunctionInvocationCount[${local.silence_interval}]{resourceId = \"${oci_functions_function.rotate.id}\"}.groupBy(resourceId).absent(3d)"
  severity         = "WARNING"
  pending_duration = "PT1M"
  destinations     = [oci_ons_notification_topic.alarms.id]
  is_enabled       = !var.paused
}

resource "oci_monitoring_alarm" "failed" {
  compartment_id        = var.compartment_id
  metric_compartment_id = var.compartment_id
  display_name          = "${var.name}: a run of the standby failed"
  body                  = "A run failed or was throttled. The log names the error. The current password still works, and the next run finishes the rotation."
  namespace             = "oci_faas"
  query                 = "FunctionResponseCount[5m]{resourceId = \"${oci_functions_function.rotate.id}\", responseType =~ \"Error|Throttled\"}.groupBy(resourceId).sum() > 0"
  severity              = "CRITICAL"
  pending_duration      = "PT1M"
  destinations          = [oci_ons_notification_topic.alarms.id]
  is_enabled            = true
}

resource "oci_logging_log_group" "lockstep" {
  compartment_id = var.compartment_id
  display_name   = var.name
  description    = "The function of Lockstep in OCI."
}

resource "oci_logging_log" "function" {
  log_group_id       = oci_logging_log_group.lockstep.id
  display_name       = "${var.name}-function"
  log_type           = "SERVICE"
  is_enabled         = true
  retention_duration = var.log_retention_days

  configuration {
    compartment_id = var.compartment_id

    source {
      source_type = "OCISERVICE"
      service     = "functions"
      category    = "invoke"
      resource    = oci_functions_application.lockstep.id
    }
  }
}
