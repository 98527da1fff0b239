# Dynamic groups and policies, all by OCID. docs/iam-oci.md explains each statement.

resource "oci_identity_dynamic_group" "function" {
  provider = oci.home

  compartment_id = var.tenancy_ocid
  name           = "${var.name}-oci-runner"
  description    = "The functions of Lockstep in OCI: the standby, and the doctor, which looks with its rights."
  matching_rule  = "ANY {resource.id = '${oci_functions_function.rotate.id}', resource.id = '${oci_functions_function.doctor.id}'}"
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags
}

resource "oci_identity_dynamic_group" "digest" {
  provider = oci.home

  compartment_id = var.tenancy_ocid
  name           = "${var.name}-oci-digest"
  description    = "The function of Lockstep in OCI that makes digests of the audit log."
  matching_rule  = "ANY {resource.id = '${oci_functions_function.digest.id}'}"
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags
}

locals {
  publish = { topic = {
    compartment_id = local.topic_compartment
    statements     = ["to {ONS_TOPIC_PUBLISH} in compartment id ${local.topic_compartment}"]
  } }
  # A call hands on to others what it has no time for. It asks the service for the address under which the function is called.
  itself = { itself = {
    compartment_id = var.compartment_id
    statements = [
      "to {FN_FUNCTION_READ} in compartment id ${var.compartment_id}",
      "to {FN_INVOCATION} in compartment id ${var.compartment_id} where target.function.id = '${oci_functions_function.rotate.id}'",
    ]
  } }
}

# A policy grants in its compartment and below, so there is one for each compartment.
resource "oci_identity_policy" "function" {
  provider = oci.home
  for_each = merge(var.grants, local.publish, local.itself)

  compartment_id = each.value.compartment_id
  name           = "${var.name}-oci-runner-${each.key}"
  description    = "Lets the OCI runner rotate the secrets of the rings, read and use its keys, add to the audit log, report failures and call itself."
  statements     = [for grant in each.value.statements : "Allow dynamic-group id ${oci_identity_dynamic_group.function.id} ${grant}"]
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags

  lifecycle {
    precondition {
      condition     = length(var.strangers) == 0
      error_message = "Lockstep's own compartment must hold no other secrets, since the OCI runner may read every secret in it. Move these to another compartment, or, if an earlier plan named them, list them in retired_secrets: ${join(", ", var.strangers)}."
    }
  }
}

resource "oci_identity_policy" "digest" {
  provider = oci.home
  for_each = merge(var.digest_grants, local.publish)

  compartment_id = each.value.compartment_id
  name           = "${var.name}-oci-digest-${each.key}"
  description    = "Lets the function that makes digests look at the audit log, sign digests, add them to their bucket, and report failures."
  statements     = [for grant in each.value.statements : "Allow dynamic-group id ${oci_identity_dynamic_group.digest.id} ${grant}"]
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags
}

resource "oci_identity_dynamic_group" "schedules" {
  provider = oci.home

  compartment_id = var.tenancy_ocid
  name           = "${var.name}-standby-schedules"
  description    = "The schedules that call the functions of Lockstep."
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags
  matching_rule = format("ANY {%s}", join(", ", [
    for schedule in concat(values(oci_resource_scheduler_schedule.standby), [oci_resource_scheduler_schedule.digest]) :
    "resource.id = '${schedule.id}'"
  ]))
}

resource "oci_identity_policy" "schedules" {
  provider = oci.home

  compartment_id = var.compartment_id
  name           = "${var.name}-standby-schedules"
  description    = "Lets the schedules find the functions and call them."
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags
  statements = [
    for grant in [
      # Resource Scheduler looks up a function before it calls it; without these its call fails with 404.
      "to read fn-app in compartment id ${var.compartment_id}",
      "to read fn-function in compartment id ${var.compartment_id}",
      format(
        "to use fn-invocation in compartment id %s where any {target.function.id = '%s', target.function.id = '%s'}",
        var.compartment_id, oci_functions_function.rotate.id, oci_functions_function.digest.id,
      ),
    ] : "Allow dynamic-group id ${oci_identity_dynamic_group.schedules.id} ${grant}"
  ]
}
