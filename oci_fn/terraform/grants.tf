# The permissions of both runners, by compartment: their size does not depend on the number of credentials.
# docs/iam-oci.md explains each.

locals {
  # What a rotation needs in Vault. Both runners have it on the rings.
  ring_grant = format("to {%s} in compartment id %s", join(", ", [
    "SECRET_INSPECT",
    "SECRET_READ",
    "SECRET_UPDATE",
    "SECRET_VERSION_INSPECT",
    "SECRET_VERSION_DELETE",
    "SECRET_BUNDLE_READ",
  ]), local.rings)

  in_audit_log = "in compartment id ${coalesce(local.bucket_compartment, local.own)} where target.bucket.name = '${try(local.audit.bucket, "")}'"

  # What the AWS runner needs beside the rings: it reads the audit log of OCI, to witness it.
  aws_grants = local.audit == null ? {} : {
    audit = {
      compartment_id = local.bucket_compartment
      statements     = ["to {OBJECT_INSPECT, OBJECT_READ} ${local.in_audit_log}"]
    }
  }

  # Where the plan sends events. A policy cannot name a topic, only the compartment.
  event_grants = {
    for topic in local.event_topic[*] : "events" => {
      compartment_id = topic.compartment_id
      statements     = ["to {ONS_TOPIC_PUBLISH} in compartment id ${topic.compartment_id}"]
    }
  }

  # The plan that it is deployed with. It may not list or write there.
  plan_grants = local.has_runner ? {
    plans = {
      compartment_id = local.plans_compartment
      statements     = ["to {OBJECT_READ} in compartment id ${coalesce(local.plans_compartment, local.own)} where target.bucket.name = '${local.plan_bucket}'"]
    }
  } : {}

  # What the OCI runner needs, by the compartment to which the policy is attached.
  runner_grants = merge(local.event_grants, local.plan_grants, {
    rings = { compartment_id = local.rings, statements = [local.ring_grant] }
    own = {
      compartment_id = local.own
      statements     = ["to {SECRET_INSPECT, SECRET_BUNDLE_READ} in compartment id ${local.own}"]
    }
    audit = {
      compartment_id = local.bucket_compartment
      statements     = ["to {OBJECT_CREATE, OBJECT_INSPECT} ${local.in_audit_log}"]
    }
  })
}
