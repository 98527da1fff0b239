# Dynamic groups and policies, all by OCID. docs/iam-oci.md explains each statement.

resource "oci_identity_dynamic_group" "function" {
  provider = oci.home

  compartment_id = var.tenancy_ocid
  name           = "${var.name}-oci-runner"
  description    = "The function of Lockstep in OCI."
  matching_rule  = "ALL {resource.type = 'fnfunc', resource.id = '${oci_functions_function.rotate.id}'}"
}

resource "oci_identity_policy" "function" {
  provider = oci.home

  compartment_id = var.compartment_id
  name           = "${var.name}-oci-runner"
  description    = "Lets the OCI runner rotate the secrets of the rings, read its keys and add to the audit log."
  statements = [
    for grant in concat(var.grants, ["to {ONS_TOPIC_PUBLISH} in compartment id ${var.compartment_id}"]) :
    "Allow dynamic-group id ${oci_identity_dynamic_group.function.id} ${grant}"
  ]
}

resource "oci_identity_dynamic_group" "schedules" {
  provider = oci.home

  compartment_id = var.tenancy_ocid
  name           = "${var.name}-standby-schedules"
  description    = "The schedules that call the function of Lockstep."
  matching_rule = format("ANY {%s}", join(", ", [
    for schedule in values(oci_resource_scheduler_schedule.standby) : "resource.id = '${schedule.id}'"
  ]))
}

resource "oci_identity_policy" "schedules" {
  provider = oci.home

  compartment_id = var.compartment_id
  name           = "${var.name}-standby-schedules"
  description    = "Lets the schedules find the function and call it."
  statements = [
    for grant in [
      # Resource Scheduler looks up the function before it calls it; without these its call fails with 404.
      "to read fn-app in compartment id ${var.compartment_id}",
      "to read fn-function in compartment id ${var.compartment_id}",
      "to use fn-invocation in compartment id ${var.compartment_id} where target.function.id = '${oci_functions_function.rotate.id}'",
    ] : "Allow dynamic-group id ${oci_identity_dynamic_group.schedules.id} ${grant}"
  ]
}
