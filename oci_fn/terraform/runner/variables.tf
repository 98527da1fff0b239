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

variable "interval_minutes" {
  type        = number
  description = "The shortest interval in the plan."
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

variable "vault_id" {
  type        = string
  description = "The OCID of the vault that Terraform created."
}

variable "vault_id_in_plan" {
  type        = string
  description = "The OCID of the vault that the plan names."
}

variable "grants" {
  type        = list(string)
  description = "The permissions of the function: policy statements from `to` on."
}
