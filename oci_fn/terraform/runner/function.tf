# The standby: the four steps of a rotation in one function, which is invoked detached.

resource "oci_functions_application" "lockstep" {
  compartment_id             = var.compartment_id
  display_name               = var.name
  subnet_ids                 = var.subnet_ids
  network_security_group_ids = var.network_security_group_ids
  shape                      = var.shape
  freeform_tags              = var.freeform_tags
  defined_tags               = var.defined_tags

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
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags

  # The provider takes a `config` that is not set for the one that is there: tracing is turned off by what is set.
  config = var.tracing_endpoint == null ? null : tomap({
    (var.tracing_endpoint == "" ? "OTEL_SDK_DISABLED" : "OTEL_EXPORTER_OTLP_ENDPOINT") = coalesce(var.tracing_endpoint, "true")
  })

  # The maximum for a synchronous call, which is how an operator calls it.
  timeout_in_seconds = 300
  # The same as TimeoutSeconds of the state machine, and below the lease: a run is dead before its lease ends.
  detached_mode_timeout_in_seconds = 300

  failure_destination {
    kind     = "NOTIFICATION"
    topic_id = local.topic_id
  }

  lifecycle {
    precondition {
      condition     = var.made.vault_id == var.in_plan.vault_id
      error_message = "vault_id in the plan: ${var.made.vault_id} is expected. Correct the plan and build the image again, since it contains the plan."
    }

    precondition {
      condition     = var.made.own_compartment_id == var.in_plan.own_compartment_id
      error_message = "own_compartment_id in the plan: ${var.made.own_compartment_id} is expected. Correct the plan and build the image again, since it contains the plan."
    }
  }
}
