"""`ENGINE = "lockstep.client.django.postgresql"`: PostgreSQL through psycopg 3."""
