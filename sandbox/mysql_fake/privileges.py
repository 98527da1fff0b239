"""The names of MySQL 8.4's privileges.

Source: MySQL 8.4 Reference Manual, "Privileges Provided by MySQL" and "GRANT Statement".
"""

ALL_PRIVILEGES = "ALL PRIVILEGES"
GRANT_OPTION = "GRANT OPTION"

GLOBAL_ONLY_PRIVILEGES = frozenset(
    {
        "CREATE ROLE",
        "CREATE TABLESPACE",
        "CREATE USER",
        "DROP ROLE",
        "FILE",
        "PROCESS",
        "RELOAD",
        "REPLICATION CLIENT",
        "REPLICATION SLAVE",
        "SHOW DATABASES",
        "SHUTDOWN",
        "SUPER",
    }
)
"""Static privileges that make sense on `*.*` alone."""

STATIC_PRIVILEGES = GLOBAL_ONLY_PRIVILEGES | {
    "ALTER",
    "ALTER ROUTINE",
    "CREATE",
    "CREATE ROUTINE",
    "CREATE TEMPORARY TABLES",
    "CREATE VIEW",
    "DELETE",
    "DROP",
    "EVENT",
    "EXECUTE",
    GRANT_OPTION,
    "INDEX",
    "INSERT",
    "LOCK TABLES",
    "REFERENCES",
    "SELECT",
    "SHOW VIEW",
    "TRIGGER",
    "UPDATE",
    "USAGE",
}

DYNAMIC_PRIVILEGES = frozenset(
    {
        "ALLOW_NONEXISTENT_DEFINER",
        "APPLICATION_PASSWORD_ADMIN",
        "AUDIT_ABORT_EXEMPT",
        "AUDIT_ADMIN",
        "AUTHENTICATION_POLICY_ADMIN",
        "BACKUP_ADMIN",
        "BINLOG_ADMIN",
        "BINLOG_ENCRYPTION_ADMIN",
        "CLONE_ADMIN",
        "CONNECTION_ADMIN",
        "ENCRYPTION_KEY_ADMIN",
        "FIREWALL_EXEMPT",
        "FLUSH_OPTIMIZER_COSTS",
        "FLUSH_PRIVILEGES",
        "FLUSH_STATUS",
        "FLUSH_TABLES",
        "FLUSH_USER_RESOURCES",
        "GROUP_REPLICATION_ADMIN",
        "GROUP_REPLICATION_STREAM",
        "INNODB_REDO_LOG_ARCHIVE",
        "INNODB_REDO_LOG_ENABLE",
        "OPTIMIZE_LOCAL_TABLE",
        "PASSWORDLESS_USER_ADMIN",
        "PERSIST_RO_VARIABLES_ADMIN",
        "REPLICATION_APPLIER",
        "REPLICATION_SLAVE_ADMIN",
        "RESOURCE_GROUP_ADMIN",
        "RESOURCE_GROUP_USER",
        "ROLE_ADMIN",
        "SENSITIVE_VARIABLES_OBSERVER",
        "SERVICE_CONNECTION_ADMIN",
        "SESSION_VARIABLES_ADMIN",
        "SET_ANY_DEFINER",
        "SHOW_ROUTINE",
        "SYSTEM_USER",
        "SYSTEM_VARIABLES_ADMIN",
        "TABLE_ENCRYPTION_ADMIN",
        "TELEMETRY_LOG_ADMIN",
        "TRANSACTION_GTID_TAG",
        "XA_RECOVER_ADMIN",
    }
)
"""Privileges that are granted on `*.*` alone, and whose names are checked when the statement runs."""
