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
  # A witness states the generation that is current, of the store in its own cloud or else of the first: a name, and no value.
  names = local.has_runner && !contains([for store in local.plan.stores : store.kind], "aws-secrets-manager") ? ["SECRET_INSPECT", "SECRET_VERSION_INSPECT"] : []

  in_audit_log = "in compartment id ${coalesce(local.bucket_compartment, local.own)} where target.bucket.name = '${try(local.audit.bucket, "")}'"

  # What each principal of the AWS runner may on the rings, and on the audit log of OCI, which it witnesses. With sessions each function
  # is one; people read the log as themselves.
  witnesses = ["OBJECT_INSPECT", "OBJECT_READ"]
  aws_may = {
    writer         = { rings = local.rotates, audit = contains(local.kinds_of_users, "reader") ? [] : local.witnesses }
    reader         = { rings = local.reads, audit = local.witnesses }
    generate       = { rings = local.rotates, audit = [] }
    apply_db       = { rings = local.reads, audit = [] }
    update_secrets = { rings = local.rotates, audit = [] }
    audit          = { rings = local.names, audit = local.has_runner ? ["OBJECT_INSPECT"] : [] }
  }
  aws_principals = merge(
    { for kind, group in oci_identity_group.aws_runner : kind => { subject = "group id ${group.id}", conditions = [] } },
    { for function, conditions in local.who_is : function => { subject = "any-user", conditions = conditions } },
  )
  # Two values, so that what is wrong with the rings is told beside what is wrong with the bucket.
  aws_on_rings = [
    for name, who in local.aws_principals : format(
      "Allow %s to {%s} in compartment id %s%s", who.subject, join(", ", local.aws_may[name].rings), local.rings,
      length(who.conditions) == 0 ? "" : " where all {${join(", ", who.conditions)}}",
    ) if length(local.aws_may[name].rings) > 0
  ]
  aws_on_audit_log = local.audit == null ? [] : [
    for name, who in local.aws_principals : format(
      "Allow %s to {%s} %s", who.subject, join(", ", local.aws_may[name].audit),
      length(who.conditions) == 0 ? local.in_audit_log : "${local.where_in_audit_log}, ${join(", ", who.conditions)}}",
    ) if length(local.aws_may[name].audit) > 0
  ]

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

  # The key that signs its tokens for AWS.
  issuer_grants = {
    for _ in local.to_aws[*] : "issuer" => {
      compartment_id = local.issuer_key_compartment
      statements     = ["to {KEY_SIGN} in compartment id ${local.issuer_key_compartment} where target.key.id = '${local.issuer_key_id}'"]
    }
  }

  # What the OCI runner needs, by the compartment to which the policy is attached.
  runner_grants = merge(local.event_grants, local.plan_grants, local.issuer_grants, {
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
