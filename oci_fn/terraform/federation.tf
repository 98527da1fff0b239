# Sessions in OCI for the functions of the AWS runner, instead of users with API keys. Each function shows the identity domain a
# token of AWS about its own role. The domain's application may exchange such tokens, and the trust says whose they are. The policies
# name the roles. docs/iam-oci.md has what each may.

variable "aws_token_issuer" {
  description = "Who makes the tokens of the AWS account, if the plan has runners.aws.federation: `aws iam get-outbound-web-identity-federation-info` prints it."
  type        = string
  default     = null

  validation {
    condition     = var.aws_token_issuer == null || can(regex("^https://[0-9a-f-]{36}\\.tokens\\.sts\\.[a-z0-9.-]+$", var.aws_token_issuer))
    error_message = "aws_token_issuer must be an address such as https://01234567-89ab-cdef-0123-456789abcdef.tokens.sts.global.api.aws."
  }
}

variable "aws_role_arns" {
  description = "The roles of the functions in AWS, by step, if the plan has runners.aws.federation: the output OciPrincipals of the stack in AWS."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.aws_role_arns), ["generate", "apply_db", "update_secrets", "digest"])) == 0
    error_message = "aws_role_arns must be named by step: generate, apply_db, update_secrets, digest."
  }

  validation {
    condition     = alltrue([for arn in values(var.aws_role_arns) : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "aws_role_arns must be ARNs of roles, such as arn:aws:iam::123456789012:role/lockstep-generate."
  }

  validation {
    condition     = length(distinct(values(var.aws_role_arns))) == length(var.aws_role_arns)
    error_message = "aws_role_arns must name a role of its own for each step."
  }
}

variable "aws_client_certificate" {
  description = "The certificate (PEM) of the key in AWS that signs for the domain's application, if the plan names one as kms_key. The domain reads its public key only, so it may be self-signed."
  type        = string
  default     = null

  validation {
    condition     = var.aws_client_certificate == null || can(regex("^-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----\\s*$", var.aws_client_certificate))
    error_message = "aws_client_certificate must be one certificate as PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----."
  }
}

variable "aws_trust_id" {
  description = "The id of an existing identity propagation trust for aws_token_issuer. A domain takes one for each issuer, so a second stack of the same AWS account in the same domain adopts the first one's."
  type        = string
  default     = null
}

variable "trusted_clients" {
  description = "The client ids of other stacks that adopt this stack's identity propagation trust."
  type        = list(string)
  default     = []
}

locals {
  to_oci         = try(local.plan.runners.aws.federation, null)
  domain_url     = try(local.to_oci.domain_url, "")
  audience       = "lockstep"
  resource_type  = "lockstep"
  by_certificate = try(local.to_oci.kms_key, null) != null
  as_users       = try(local.to_oci.token, "rpst") == "upst"

  # The functions that call OCI. The log in OCI is read where the standby writes one.
  first_store_in_oci = local.plan.stores[0].kind == "oci-vault"
  functions_in_oci   = concat(["generate", "apply_db", "update_secrets"], local.has_runner ? ["digest"] : [])

  # What the stack in AWS gives. Until then none of this is made.
  missing_for_sessions = local.to_oci == null ? [] : concat(
    var.aws_token_issuer == null ? ["aws_token_issuer"] : [],
    length(setsubtract(local.functions_in_oci, keys(var.aws_role_arns))) > 0 ? ["aws_role_arns with ${join(", ", local.functions_in_oci)}"] : [],
    local.by_certificate && var.aws_client_certificate == null ? ["aws_client_certificate"] : [],
  )
  some_for_sessions = var.aws_token_issuer != null || length(var.aws_role_arns) > 0 || var.aws_client_certificate != null
  has_sessions      = local.to_oci != null && length(local.missing_for_sessions) == 0
  roles             = { for function, arn in var.aws_role_arns : function => arn if local.has_sessions && contains(local.functions_in_oci, function) }

  domain_ocid = one(concat(
    oci_identity_domains_identity_propagation_trust.aws[*].domain_ocid,
    data.oci_identity_domains_identity_propagation_trust.adopted[*].domain_ocid,
  ))

  # Whom a policy means by a function of AWS: the one place that says so. A session of a resource principal has the token's `sub` as
  # its name, and that is the role. Of this domain: administrators of another one may trust whom they like. This form was not tried
  # on a tenancy.
  who_is = {
    for function, arn in local.roles : function => local.as_users ? [
      "request.principal.type = 'user'",
      "request.user.id = '${oci_identity_domains_user.aws_function[function].ocid}'",
      ] : [
      "request.principal.type = 'identityfederateddomainapp'",
      "request.principal.domain.id = '${local.domain_ocid}'",
      "request.principal.name = '${arn}'",
    ]
  }
}

resource "oci_identity_domains_oauth_client_certificate" "aws_runner" {
  provider = oci.home
  count    = local.has_sessions && local.by_certificate ? 1 : 0

  idcs_endpoint         = local.domain_url
  schemas               = ["urn:ietf:params:scim:schemas:oracle:idcs:OAuthClientCertificate"]
  certificate_alias     = local.to_oci.certificate
  x509base64certificate = replace(replace(var.aws_client_certificate, "/-----[A-Z ]+-----/", ""), "/\\s/", "")

  lifecycle {
    # The application goes on to the next one first, so a new certificate needs a new alias in the plan.
    create_before_destroy = true
    ignore_changes        = [schemas]
  }
}

resource "oci_identity_domains_app" "aws_runner" {
  provider = oci.home
  count    = local.has_sessions ? 1 : 0

  idcs_endpoint   = local.domain_url
  schemas         = ["urn:ietf:params:scim:schemas:oracle:idcs:App"]
  display_name    = "${var.name}-aws-runner"
  name            = local.to_oci.client_id
  description     = "Lockstep: exchanges tokens of the AWS runner's functions for sessions."
  active          = true
  is_oauth_client = true
  client_type     = local.by_certificate ? "trusted" : "confidential"
  # The domain knows no grant type of token exchange: the trust names who may do that.
  allowed_grants = ["client_credentials"]
  # What the provider reads back. The client secret, which every such application has, stays out of the state.
  attributes = "name,displayName,description,active,isOAuthClient,clientType,allowedGrants,certificates,basedOnTemplate,domainOcid"

  based_on_template {
    value = "CustomWebAppTemplateId"
  }

  dynamic "certificates" {
    for_each = oci_identity_domains_oauth_client_certificate.aws_runner

    content {
      cert_alias = certificates.value.certificate_alias
    }
  }

  lifecycle {
    ignore_changes = [schemas]
    # Without it AWS gets no session: a variable that is missing here must not end them. The domain deletes no active application, so
    # an administrator does both.
    prevent_destroy = true

    precondition {
      condition     = can(regex("^[A-Za-z0-9_]+$", local.to_oci.client_id))
      error_message = "runners.aws.federation.client_id in the plan: you choose it, and the application is made with it. It must be letters, digits and underscores."
    }
  }
}

resource "oci_identity_domains_identity_propagation_trust" "aws" {
  provider = oci.home
  count    = local.has_sessions && var.aws_trust_id == null ? 1 : 0

  idcs_endpoint          = local.domain_url
  schemas                = ["urn:ietf:params:scim:schemas:oracle:idcs:IdentityPropagationTrust"]
  name                   = "${var.name}-aws"
  description            = "Lockstep: the functions of the AWS runner, by tokens of their AWS account."
  type                   = "JWT"
  active                 = true
  issuer                 = var.aws_token_issuer
  public_key_endpoint    = "${var.aws_token_issuer}/.well-known/jwks.json"
  subject_type           = local.as_users ? "User" : "Resource"
  subject_claim_name     = "sub"
  client_claim_name      = "aud"
  client_claim_values    = [local.audience]
  allow_impersonation    = true
  impersonating_resource = local.as_users ? null : local.resource_type
  oauth_clients          = distinct(concat([oci_identity_domains_app.aws_runner[0].name], var.trusted_clients))
  attribute_sets         = ["all"]

  dynamic "impersonation_service_users" {
    for_each = oci_identity_domains_user.aws_function

    content {
      rule  = "sub eq '${local.roles[impersonation_service_users.key]}'"
      value = impersonation_service_users.value.id
    }
  }

  lifecycle {
    ignore_changes = [schemas]
  }
}

data "oci_identity_domains_identity_propagation_trust" "adopted" {
  provider = oci.home
  count    = local.has_sessions && var.aws_trust_id != null ? 1 : 0

  idcs_endpoint                 = local.domain_url
  identity_propagation_trust_id = var.aws_trust_id

  lifecycle {
    postcondition {
      condition     = self.active && self.issuer == var.aws_token_issuer
      error_message = "aws_trust_id: it must be active, and for ${var.aws_token_issuer}."
    }

    postcondition {
      condition     = !local.as_users && self.impersonating_resource == local.resource_type
      error_message = "aws_trust_id: a trust is for one resource type. The plan must have token: rpst, and the trust ${local.resource_type}, not ${coalesce(self.impersonating_resource, "none")}."
    }

    postcondition {
      condition     = self.client_claim_name == "aud" && contains(self.client_claim_values, local.audience)
      error_message = "aws_trust_id: it must take tokens with ${local.audience} as aud."
    }

    postcondition {
      condition     = contains(self.oauth_clients, local.to_oci.client_id)
      error_message = "aws_trust_id: its clients must include ${local.to_oci.client_id}. If another stack has made it, list this there in trusted_clients."
    }
  }
}

# With `token: upst` a session is one of a user: one for each function, who cannot sign in.
resource "oci_identity_domains_user" "aws_function" {
  provider = oci.home
  for_each = local.as_users ? local.roles : {}

  idcs_endpoint = local.domain_url
  schemas       = ["urn:ietf:params:scim:schemas:core:2.0:User"]
  user_name     = "${var.name}-aws-${replace(each.key, "_", "-")}"
  description   = "Lockstep: the function ${each.key} of the AWS runner."

  urnietfparamsscimschemasoracleidcsextensionuser_user {
    service_user = true
  }

  lifecycle {
    ignore_changes = [schemas]
  }
}

output "runners_aws_federation" {
  description = "The section runners.aws.federation of the plan, as it was deployed. Empty until aws_token_issuer, aws_role_arns and, with a key, aws_client_certificate are set."
  value = !local.has_sessions ? null : {
    domain_url    = local.domain_url
    client_id     = oci_identity_domains_app.aws_runner[0].name
    kms_key       = try(local.to_oci.kms_key, null)
    certificate   = try(local.to_oci.certificate, null)
    client_secret = try(local.to_oci.client_secret, null)
    token         = local.as_users ? "upst" : "rpst"
  }

  precondition {
    condition     = !local.some_for_sessions || length(local.missing_for_sessions) == 0
    error_message = "Sessions for the AWS runner need more variables: ${join("; ", local.missing_for_sessions)}."
  }
}
