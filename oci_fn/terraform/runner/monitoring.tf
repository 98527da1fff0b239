# What an operator hears and sees.

locals {
  # Three triggers missed. Up to an hour an alarm counts in minutes, then in hours, up to a day.
  silence_minutes  = min(3 * local.period, 1440)
  silence_interval = local.silence_minutes <= 60 ? "${local.silence_minutes}m" : "${ceil(local.silence_minutes / 60)}h"
}

resource "oci_ons_notification_topic" "alarms" {
  compartment_id = var.compartment_id
  name           = "${var.name}-alarms"
  description    = "Lockstep's alarms in OCI, and runs that failed."
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
  display_name          = "${var.name}: the standby is not called"
  body                  = "Resource Scheduler has missed three triggers. AWS goes on rotating; the standby would not take over."
  namespace             = "oci_faas"
  # Goes on firing for three days of silence.
  query            = "FunctionInvocationCount[${local.silence_interval}]{resourceId = \"${oci_functions_function.rotate.id}\"}.groupBy(resourceId).absent(3d)"
  severity         = "WARNING"
  pending_duration = "PT1M"
  destinations     = [oci_ons_notification_topic.alarms.id]
  is_enabled       = !var.paused
}

resource "oci_monitoring_alarm" "failed" {
  compartment_id        = var.compartment_id
  metric_compartment_id = var.compartment_id
  display_name          = "${var.name}: the standby fails"
  body                  = "A run failed or was throttled. Its log names the error; the current login still works, and the next run goes on from here."
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
  description    = "Lockstep's function in OCI."
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
