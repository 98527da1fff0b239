# Topic, alarms and log.

locals {
  # Three missed triggers. An alarm takes up to 60 minutes, or whole hours up to a day.
  silence_minutes  = min(3 * local.period, 1440)
  silence_interval = local.silence_minutes <= 60 ? "${local.silence_minutes}m" : "${ceil(local.silence_minutes / 60)}h"
}

resource "oci_ons_notification_topic" "alarms" {
  count = var.topic_ocid == null ? 1 : 0

  compartment_id = var.compartment_id
  name           = "${var.name}-alarms"
  description    = "Alarms of Lockstep in OCI, and failed runs."
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags
}

data "oci_ons_notification_topic" "adopted" {
  count = var.topic_ocid == null ? 0 : 1

  topic_id = var.topic_ocid
}

locals {
  topic_id          = one(concat(oci_ons_notification_topic.alarms[*].id, var.topic_ocid[*]))
  topic_compartment = one(concat(oci_ons_notification_topic.alarms[*].compartment_id, data.oci_ons_notification_topic.adopted[*].compartment_id))
}

resource "oci_ons_subscription" "email" {
  count = var.alarm_email == null ? 0 : 1

  compartment_id = local.topic_compartment
  topic_id       = local.topic_id
  protocol       = "EMAIL"
  endpoint       = var.alarm_email
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags
}

# Monitoring sends a message when an alarm fires and another one when it is over.
locals {
  alarms = {
    absent = {
      title    = "the standby was not called"
      body     = "Resource Scheduler has missed three triggers. AWS keeps rotating, but the standby would not take over."
      severity = "WARNING"
      # The alarm stays for three days without a call.
      query = "FunctionInvocationCount[${local.silence_interval}]{resourceId = \"${oci_functions_function.rotate.id}\"}.groupBy(resourceId).absent(3d)"
      # After a deployment or a pause nothing was called for long, and the first trigger is up to one period away. An hour
      # is the most that Monitoring waits.
      pending = "PT${min(local.period + 10, 60)}M"
      enabled = !var.paused
    }
    failed = {
      title    = "a run of the standby failed"
      body     = "A run failed or was throttled. The log names the error. The current password still works, and the next run finishes the rotation."
      severity = "WARNING"
      query    = "FunctionResponseCount[5m]{resourceId = \"${oci_functions_function.rotate.id}\", responseType =~ \"Error|Throttled\"}.groupBy(resourceId).sum() > 0"
      pending  = "PT1M"
      enabled  = true
    }
    failing = {
      title    = "the standby keeps failing"
      body     = "Two or more runs of the last three failed. The current password still works, but if AWS does not rotate either, it gets older than planned."
      severity = "CRITICAL"
      query    = "FunctionResponseCount[${local.silence_interval}]{resourceId = \"${oci_functions_function.rotate.id}\", responseType =~ \"Error|Throttled\"}.groupBy(resourceId).sum() >= 2"
      pending  = "PT1M"
      enabled  = true
    }
    digest_absent = {
      title    = "three hours without a digest of the audit log"
      body     = "For three hours no digest was made and in order. Whoever administers the audit log could have changed these hours unseen. The log of the function names the error."
      severity = "CRITICAL"
      query    = "FunctionResponseCount[3h]{resourceId = \"${oci_functions_function.digest.id}\", responseType = \"Success\"}.groupBy(resourceId).absent(3d)"
      # The first one is made within the hour.
      pending = "PT60M"
      enabled = true
    }
    digest_failed = {
      title    = "a digest of the audit log failed"
      body     = "The digest names a problem in the audit log, AWS has made no digest for three hours, or this one could not be made. The log of the function says which."
      severity = "CRITICAL"
      query    = "FunctionResponseCount[5m]{resourceId = \"${oci_functions_function.digest.id}\", responseType =~ \"Error|Throttled\"}.groupBy(resourceId).sum() > 0"
      pending  = "PT1M"
      enabled  = true
    }
  }
}

resource "oci_monitoring_alarm" "standby" {
  for_each = local.alarms

  compartment_id        = var.compartment_id
  metric_compartment_id = var.compartment_id
  display_name          = "${var.name}: ${each.value.title}"
  body                  = "${each.value.body} First: `${startswith(each.key, "digest") ? "lockstep audit verify" : "lockstep status --summary"}`. Then: ${var.runbook_url}#oci-${replace(each.value.title, " ", "-")}"
  namespace             = "oci_faas"
  query                 = each.value.query
  severity              = each.value.severity
  pending_duration      = each.value.pending
  destinations          = [local.topic_id]
  is_enabled            = each.value.enabled
  freeform_tags         = var.freeform_tags
  defined_tags          = var.defined_tags
}

resource "oci_logging_log_group" "lockstep" {
  compartment_id = var.compartment_id
  display_name   = var.name
  description    = "The function of Lockstep in OCI."
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags
}

resource "oci_logging_log" "function" {
  log_group_id       = oci_logging_log_group.lockstep.id
  display_name       = "${var.name}-function"
  log_type           = "SERVICE"
  is_enabled         = true
  retention_duration = var.log_retention_days
  freeform_tags      = var.freeform_tags
  defined_tags       = var.defined_tags

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
