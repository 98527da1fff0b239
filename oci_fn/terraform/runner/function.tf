# The standby: the four steps of a rotation in one function, which is invoked detached.

resource "oci_functions_application" "lockstep" {
  compartment_id             = var.compartment_id
  display_name               = var.name
  subnet_ids                 = var.subnet_ids
  network_security_group_ids = var.network_security_group_ids

  lifecycle {
    precondition {
      condition     = length(var.subnet_ids) > 0
      error_message = "subnet_ids must name at least one subnet: the function must be able to reach the databases and AWS."
    }
  }
}

resource "oci_functions_function" "rotate" {
  application_id = oci_functions_application.lockstep.id
  display_name   = "rotate"
  image          = var.image
  image_digest   = var.image_digest
  memory_in_mbs  = var.memory_in_mbs

  # The maximum for a synchronous call, which is how an operator calls it.
  timeout_in_seconds = 300
  # The same as TimeoutSeconds of the state machine, and below the lease: a run is dead before its lease ends.
  detached_mode_timeout_in_seconds = 360

  failure_destination {
    kind     = "NOTIFICATION"
    topic_id = oci_ons_notification_topic.alarms.id
  }

  lifecycle {
    precondition {
      condition     = var.vault_id == var.vault_id_in_plan
      error_message = "vault_id in the plan: ${var.vault_id} is expected. Correct the plan and build the image again, since it contains the plan."
    }
  }
}
