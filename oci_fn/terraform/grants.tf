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

  in_audit_log = "in compartment id ${local.own} where target.bucket.name = '${try(local.audit.bucket, "")}'"

  # What each principal of the AWS runner may on the rings. With sessions each function is one.
  aws_may = {
    writer         = local.rotates
    reader         = local.reads
    generate       = local.rotates
    apply_db       = local.reads
    update_secrets = local.rotates
  }
  aws_principals = merge(
    { for kind, group in oci_identity_group.aws_runner : kind => { subject = "group id ${group.id}", conditions = [] } },
    { for function, conditions in local.who_is : function => { subject = "any-user", conditions = conditions } },
  )
  aws_on_rings = [
    for name, who in local.aws_principals : format(
      "Allow %s to {%s} in compartment id %s%s", who.subject, join(", ", local.aws_may[name]), local.rings,
      length(who.conditions) == 0 ? "" : " where all {${join(", ", who.conditions)}}",
    ) if contains(keys(local.aws_may), name)
  ]

  # Where the plan sends events. A policy cannot name a topic, only the compartment.
  event_grants = {
    for topic in data.oci_ons_notification_topic.events : "events" => {
      compartment_id = topic.compartment_id
      statements     = ["to {ONS_TOPIC_PUBLISH} in compartment id ${topic.compartment_id}"]
    }
  }

  # The plan that it is deployed with. It may not list or write there.
  plan_grants = local.has_runner ? {
    plans = {
      compartment_id = local.own
      statements     = ["to {OBJECT_READ} in compartment id ${local.own} where target.bucket.name = '${local.plan_bucket}'"]
    }
  } : {}

  # The key that signs its tokens for AWS.
  issuer_grants = {
    for _ in local.to_aws[*] : "issuer" => {
      compartment_id = local.own
      statements     = ["to {KEY_SIGN} in compartment id ${local.own} where target.key.id = '${local.issuer_key_id}'"]
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
      compartment_id = local.own
      statements     = ["to {OBJECT_CREATE, OBJECT_INSPECT} ${local.in_audit_log}"]
    }
  })
}

data "oci_ons_notification_topic" "events" {
  count = local.event_topic == null ? 0 : 1

  topic_id = local.event_topic
}
