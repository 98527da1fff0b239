# The permissions of both runners, by compartment: their size does not depend on the number of credentials.
# docs/iam-oci.md explains each.

locals {
  # What a rotation needs in Vault, and what of it only reads.
  rotates = [
    "SECRET_INSPECT",
    "SECRET_READ",
    "SECRET_UPDATE",
    "SECRET_VERSION_INSPECT",
    "SECRET_VERSION_DELETE",
    "SECRET_BUNDLE_READ",
  ]
  reads = ["SECRET_INSPECT", "SECRET_READ", "SECRET_VERSION_INSPECT", "SECRET_BUNDLE_READ"]

  in_audit_log = "in compartment id ${coalesce(local.bucket_compartment, local.own)} where target.bucket.name = '${try(local.audit.bucket, "")}'"

  # What each principal of the AWS runner may on the rings, and on the audit log of OCI, which it witnesses.
  witnesses = ["OBJECT_INSPECT", "OBJECT_READ"]
  aws_may = {
    writer = { rings = local.rotates, audit = local.has_reader ? [] : local.witnesses }
    reader = { rings = local.reads, audit = local.witnesses }
  }
  # How a policy names each.
  aws_principals = {
    for kind, group in oci_identity_group.aws_runner : kind => "group id ${group.id}"
  }
  aws_statements = {
    rings = [
      for name, principal in local.aws_principals :
      "Allow ${principal} to {${join(", ", local.aws_may[name].rings)}} in compartment id ${local.rings}"
      if length(local.aws_may[name].rings) > 0
    ]
    audit = local.audit == null ? [] : [
      for name, principal in local.aws_principals :
      "Allow ${principal} to {${join(", ", local.aws_may[name].audit)}} ${local.in_audit_log}"
      if length(local.aws_may[name].audit) > 0
    ]
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
    rings = {
      compartment_id = local.rings
      statements     = ["to {${join(", ", local.rotates)}} in compartment id ${local.rings}"]
    }
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
