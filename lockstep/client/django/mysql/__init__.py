"""`ENGINE = "lockstep.client.django.mysql"`: MySQL and MariaDB through PyMySQL."""
