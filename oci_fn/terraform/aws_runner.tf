# The policies of the AWS runner: what each of its principals may. aws_users.tf makes users with API keys, federation.tf makes
# sessions for the roles of its functions.

resource "oci_identity_policy" "aws_runner" {
  provider = oci.home
  count    = length(local.aws_on_rings) > 0 ? 1 : 0

  compartment_id = local.rings
  name           = "${var.name}-aws-runner"
  description    = "Lets the AWS runner rotate the secrets of the rings."
  statements     = local.aws_on_rings
  freeform_tags  = local.freeform_tags
  defined_tags   = local.defined_tags

  lifecycle {
    precondition {
      condition     = !contains(local.above_own, local.rings)
      error_message = "compartment_ocid: it must not be the compartment of the rings (compartment_id in the plan), or below it. A policy covers the compartments below its own, so the AWS runner would read the keys too."
    }

    precondition {
      condition     = length(local.strangers_in_rings) == 0
      error_message = "The compartment of the rings must hold nothing else, since the runners may change every secret in it. Move these to another compartment, or, if Lockstep has rotated them, list them in retired_slots: ${join(", ", local.strangers_in_rings)}."
    }
  }
}
