# Variables with the same name as in ../variables.tf are checked there.

variable "name" {
  type        = string
  description = "The prefix of all names."
}

variable "tenancy_ocid" {
  type        = string
  description = "The OCID of the tenancy, for dynamic groups."
}

variable "compartment_id" {
  type        = string
  description = "The OCID of the compartment for everything else."
}

variable "image" {
  type        = string
  description = "The image of the function, with its tag."
}

variable "image_digest" {
  type        = string
  description = "The digest of the image, or null."
}

variable "published_plan" {
  type        = string
  description = "The address of the plan that the function reads, or null."
}

variable "memory_in_mbs" {
  type        = number
  description = "The memory of the function in MB."
}

variable "subnet_ids" {
  type        = list(string)
  description = "The subnets of the function."
}

variable "network_security_group_ids" {
  type        = list(string)
  description = "The network security groups of the function."
}

variable "credentials" {
  type        = map(number)
  description = "How many credentials each interval of the plan has, by the interval in minutes."
}

variable "paused" {
  type        = bool
  description = "Whether the schedules are inactive."
}

variable "log_retention_days" {
  type        = number
  description = "The number of days for which the log of the function is kept."
}

variable "alarm_email" {
  type        = string
  description = "The e-mail address that gets alarms, or null."
}

variable "runbook_url" {
  type        = string
  description = "Where people read docs/alarms.md."
}

variable "shape" {
  type        = string
  description = "The processors of the application."
}

variable "freeform_tags" {
  type        = map(string)
  description = "Free-form tags."
}

variable "defined_tags" {
  type        = map(string)
  description = "Defined tags, or null."
}

variable "topic_ocid" {
  type        = string
  description = "An existing topic for alarms, or null."
}

variable "made" {
  type        = map(string)
  description = "What Terraform made or adopted, by its place in the plan."
}

variable "in_plan" {
  type        = map(string)
  description = "What the plan says of it."
}

variable "issuer_key" {
  type        = object({ in_plan = string, made = string })
  description = "The issuer's key, as the plan has it and as it is, or null."
}

variable "missing" {
  type        = list(string)
  description = "What is not set and the AWS runner needs."
}

variable "grants" {
  type        = map(object({ compartment_id = string, statements = list(string) }))
  description = "The permissions of the function by compartment: policy statements from `to` on."
}

variable "digest_key" {
  type        = string
  description = "The key that signs digests: its OCID, @, and the cryptographic endpoint of its vault."
}

variable "digest_grants" {
  type        = map(object({ compartment_id = string, statements = list(string) }))
  description = "The same for the function that makes digests."
}

variable "strangers" {
  type        = list(string)
  description = "Secrets in Lockstep's own compartment that are not Lockstep's."
}
