# Values from lockstep.yaml, with the defaults of lockstep/plan. Tests check that both give the same names.
locals {
  plan  = yamldecode(file(var.plan_file))
  vault = one([for store in local.plan.stores : store if store.kind == "oci-vault"])
  ring  = local.first_store_in_oci ? 1 : 4 # slots

  # The two secrets of each credential.
  secrets = {
    for credential in local.plan.credentials : credential.id => [
      coalesce(try(credential.secret, null), credential.id),
      coalesce(try(credential.connection_secret, null), "${credential.id}.connection"),
    ]
  }

  # Each secret is a ring of plain secrets. OCI takes no slash in a name: multi-cloud/app_user is multi-cloud.app_user.0 …
  slots = {
    for credential, names in local.secrets : credential => [
      for pair in setproduct(names, range(local.ring)) : "${replace(pair[0], "/", ".")}.${pair[1]}"
    ]
  }

  # Only the OCI runner signs an audit log, calls AWS and logs in as a rotation user with secrets from Vault. With sessions in AWS it
  # has no key for that.
  audit       = try(local.plan.audit.oci, null)
  mac_secrets = toset([for name in local.audit[*].mac_secret : replace(name, "/", ".")])
  admin_secrets = compact([
    for database in local.plan.databases :
    try(coalesce(try(database.oci_admin_secret, null), try(database.admin_secret, null)), "")
  ])
  by_hand = toset([
    for name in flatten([
      for runner in try(local.plan.runners.oci, null)[*] : concat(compact([try(runner.aws_key_secret, null)]), local.admin_secrets)
    ]) : replace(name, "/", ".")
  ])

  # Where the OCI runner sends events: the OCID of a topic.
  event_topic = try(local.plan.events.oci, null)

  # A duration is one or more numbers with units, such as 20m or 1h30m.
  unit_minutes = { s = 1 / 60, m = 1, h = 60, d = 1440 }
  intervals = [
    for credential in local.plan.credentials : sum([
      for part in regexall("([0-9]+) ?([smhd])", try(credential.interval, "20m")) : part[0] * local.unit_minutes[part[1]]
    ])
  ]
}
