# As the variables of the same name in ../variables.tf, where they are checked.

variable "name" {
  type        = string
  description = "Prefix of all names."
}

variable "tenancy_ocid" {
  type        = string
  description = "Where dynamic groups stand."
}

variable "compartment_id" {
  type        = string
  description = "Where everything else stands."
}

variable "image" {
  type        = string
  description = "The function's image, with its tag."
}

variable "image_digest" {
  type        = string
  description = "Its digest, or none."
}

variable "memory_in_mbs" {
  type        = number
  description = "Of the function."
}

variable "subnet_ids" {
  type        = list(string)
  description = "Where the function runs."
}

variable "network_security_group_ids" {
  type        = list(string)
  description = "Of its network interface."
}

variable "interval_minutes" {
  type        = number
  description = "The shortest interval in the plan."
}

variable "offset_minutes" {
  type        = number
  description = "From midnight UTC to the first trigger; none: half an interval."
}

variable "paused" {
  type        = bool
  description = "Whether the schedules rest."
}

variable "log_retention_days" {
  type        = number
  description = "Of the function's log."
}

variable "alarm_email" {
  type        = string
  description = "Who hears of alarms, or none."
}

variable "vault_id" {
  type        = string
  description = "The vault that there is."
}

variable "vault_id_in_plan" {
  type        = string
  description = "The vault that the plan in the image names."
}

variable "grants" {
  type        = list(string)
  description = "What the function may do: statements of a policy from `to` on."
}
