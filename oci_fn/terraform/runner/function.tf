# The standby: the four steps of a rotation in one function, which is invoked detached. The same image stands beside it as a second
# function, which only looks, and as a third one, which makes digests of the audit log: a policy tells functions by their OCIDs, and
# not what they are asked.

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

  config = { LOCKSTEP_PLAN = var.published_plan }

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
      condition     = var.published_plan != null
      error_message = "plan_digest must be set, since the function reads the published plan of that digest: `lockstep plan publish --digest` prints it, and `make deploy-oci` passes it on."
    }

    precondition {
      condition     = alltrue([for place, made in var.made : made == var.in_plan[place]])
      error_message = "${join(" ", [for place, made in var.made : "${place} in the plan: ${made} is expected." if made != var.in_plan[place]])} Correct the plan and deploy again."
    }

    # By itself: a message cannot tell what is not known yet, and the key may be new where the vault is not.
    precondition {
      condition     = try(var.issuer_key.made == var.issuer_key.in_plan, var.issuer_key == null)
      error_message = "runners.oci.federation.key.id in the plan: ${try(var.issuer_key.made, "nothing")} is expected. Correct the plan and deploy again."
    }

    precondition {
      condition     = length(var.missing) == 0
      error_message = "The plan has runners.aws.federation, so deploy the stack in AWS first, and set: ${join("; ", var.missing)}."
    }
  }
}

# What `lockstep doctor --in-cloud` asks. It has the rights of the standby, since what it looks at is what the standby would meet.
resource "oci_functions_function" "doctor" {
  application_id = oci_functions_application.lockstep.id
  display_name   = "doctor"
  image          = var.image
  image_digest   = var.image_digest
  memory_in_mbs  = var.memory_in_mbs
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags

  # With the second one it answers the doctor and nothing else, and without it never the doctor.
  config = { LOCKSTEP_PLAN = var.published_plan, LOCKSTEP_DOCTOR = "1" }

  timeout_in_seconds = 300
}

# Every hour it makes a digest of the audit log, by its own clock and with rights of its own: it writes no entry.
resource "oci_functions_function" "digest" {
  application_id = oci_functions_application.lockstep.id
  display_name   = "digest"
  image          = var.image
  image_digest   = var.image_digest
  memory_in_mbs  = var.memory_in_mbs
  freeform_tags  = var.freeform_tags
  defined_tags   = var.defined_tags

  # With the second one it makes digests and nothing else.
  config = { LOCKSTEP_PLAN = var.published_plan, LOCKSTEP_DIGEST_KEY = var.digest_key }

  timeout_in_seconds = 300
  # It ends before the next one begins, and OCI takes an hour at most.
  detached_mode_timeout_in_seconds = 3300

  failure_destination {
    kind     = "NOTIFICATION"
    topic_id = local.topic_id
  }
}
