output "function_id" {
  description = "The OCID of the function."
  value       = oci_functions_function.rotate.id
}

output "doctor_function_id" {
  description = "The OCID of the function that only looks."
  value       = oci_functions_function.doctor.id
}

output "digest_function_id" {
  description = "The OCID of the function that makes digests."
  value       = oci_functions_function.digest.id
}

output "schedules" {
  description = "Cron expressions, in UTC."
  value       = [for schedule in values(oci_resource_scheduler_schedule.standby) : schedule.recurrence_details]
}
