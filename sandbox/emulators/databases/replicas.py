"""Read replicas of the sandbox's servers: they replicate over TLS, and lag for as long as they are told to."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from sandbox.emulators.databases.mysql_family import MariaDbServer, MySqlFamilyServer, MySqlServer
from sandbox.emulators.databases.postgresql import PostgresServer
from sandbox.emulators.databases.process import poll_until, write_private_file

# Less than the superuser's connections wait for an answer.
_SYNC_SECONDS = 25

BINARY_LOG: Mapping[str, str] = {"log_bin": "binlog", "server_id": "1"}
"""The settings of a MariaDB or MySQL server that has a replica."""


class ReplicaLagError(Exception):
    """A replica did not get as far as its primary in time."""


@dataclass(kw_only=True, eq=False)
class MySqlFamilyReplica(MySqlFamilyServer):
    """Copies what its primary does after the replica's first start.

    Attributes:
        primary: Runs already, with `BINARY_LOG` among its settings.
        role: What the engine calls a primary in its statements.
        own_role: What it calls a replica.
        change: The statement that names the primary.
    """

    settings: Mapping[str, str] = field(default_factory=lambda: {"server_id": "2"})
    primary: MySqlFamilyServer

    role: ClassVar[str]
    own_role: ClassVar[str]
    change: ClassVar[str]

    def start(self) -> None:
        """See `DatabaseServer`."""
        is_new = not self.data_folder.exists()
        super().start()
        if is_new:
            self._follow()

    def hold(self) -> None:
        """Receive changes, and apply none of them until `catch_up`."""
        self.execute_as_superuser(f"STOP {self.own_role} SQL_THREAD")

    def catch_up(self) -> None:
        """Apply changes again, and wait until all that the primary has made by now are applied.

        Raises:
            ReplicaLagError: That took too long.
        """
        file, position = self._end_of_log()
        ((waited,),) = self.execute_as_superuser(
            [
                f"START {self.own_role} SQL_THREAD",
                f"SELECT {self.role}_POS_WAIT('{file}', {position}, {_SYNC_SECONDS})",
            ]
        )
        if waited is None or waited < 0:
            raise ReplicaLagError(f"{self} did not reach {file}:{position}")

    def _follow(self) -> None:
        primary = self.primary
        account, password = f"replica_{self.port}", secrets.token_urlsafe(16)
        primary.execute_as_superuser(
            [
                f"CREATE USER {account}@'%' IDENTIFIED BY '{password}' REQUIRE SSL",
                f"GRANT REPLICATION SLAVE ON *.* TO {account}@'%'",
            ]
        )
        file, position = self._end_of_log()
        options: dict[str, str | int] = {
            # The name `localhost` would mean a socket.
            "HOST": "'127.0.0.1'",
            "PORT": primary.listening_port,
            "USER": f"'{account}'",
            "PASSWORD": f"'{password}'",
            "SSL": 1,
            "SSL_CA": f"'{primary.ca_file}'",
            "SSL_VERIFY_SERVER_CERT": 1,
            "LOG_FILE": f"'{file}'",
            "LOG_POS": position,
            # In seconds. A primary that is shut down waits for the next one to see that the replica is gone.
            "HEARTBEAT_PERIOD": 1,
        }
        named = ", ".join(f"{self.role}_{name} = {value}" for name, value in options.items())
        self.execute_as_superuser([f"{self.change} {named}", f"START {self.own_role}"])

    def _end_of_log(self) -> tuple[str, int]:
        # The statement that gives the position alone has another name in each version.
        file, size, *_ = self.primary.execute_as_superuser("SHOW BINARY LOGS")[-1]
        return str(file), int(size)


@dataclass(kw_only=True, eq=False)
class MariaDbReplica(MySqlFamilyReplica, MariaDbServer):
    """A replica of a MariaDB server."""

    role: ClassVar[str] = "MASTER"
    own_role: ClassVar[str] = "SLAVE"
    change: ClassVar[str] = "CHANGE MASTER TO"


@dataclass(kw_only=True, eq=False)
class MySqlReplica(MySqlFamilyReplica, MySqlServer):
    """A replica of a MySQL server since 8.0.26."""

    role: ClassVar[str] = "SOURCE"
    own_role: ClassVar[str] = "REPLICA"
    change: ClassVar[str] = "CHANGE REPLICATION SOURCE TO"


@dataclass(kw_only=True, eq=False)
class PostgresReplica(PostgresServer):
    """A hot standby, by streaming replication; its superuser is the primary's.

    Attributes:
        primary: Runs already.
    """

    primary: PostgresServer

    def __post_init__(self) -> None:
        self.superuser_password = self.primary.superuser_password

    def hold(self) -> None:
        """See `MySqlFamilyReplica`."""
        self.execute_as_superuser("SELECT pg_wal_replay_pause()")
        # The pause begins when the replay of the record under way has ended.
        self._wait("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    def catch_up(self) -> None:
        """See `MySqlFamilyReplica`."""
        ((end,),) = self.primary.execute_as_superuser("SELECT pg_current_wal_lsn()")
        self.execute_as_superuser("SELECT pg_wal_replay_resume()")
        self._wait(f"SELECT pg_last_wal_replay_lsn() >= '{end}'")

    def _wait(self, condition: str) -> None:
        if not poll_until(
            lambda: self.execute_as_superuser(condition) == [(True,)], timeout_seconds=_SYNC_SECONDS
        ):
            raise ReplicaLagError(f"{self}: not true in time: {condition}")

    def _make_data(self, folder: Path) -> None:
        # Copies, because the server's account can read neither root's files nor the authority's folder.
        for file, content in (
            (self._password_file, f"*:*:*:{self.superuser}:{self.superuser_password}\n".encode()),
            (self._authority_file, self.ca_file.read_bytes()),
        ):
            write_private_file(file, content)
            self._hand_over(file)
        folder.mkdir(mode=0o700)
        self._hand_over(folder)
        program = self._bin_folder() / "pg_basebackup"
        self._run_tool(
            [program, f"--pgdata={folder}", f"--dbname={self._source}", "--checkpoint=fast", "--no-sync"]
        )
        (folder / "standby.signal").touch()

    def _settings(self) -> dict[str, str]:
        return {**super()._settings(), "primary_conninfo": self._source}

    @property
    def _password_file(self) -> Path:
        return self.home / "primary.pgpass"

    @property
    def _authority_file(self) -> Path:
        return self.home / "primary-ca.pem"

    @property
    def _source(self) -> str:
        """How the primary is reached; holds no password."""
        primary = self.primary
        return (
            f"host={primary.host} port={primary.listening_port} user={primary.superuser} sslmode=verify-full "
            f"sslrootcert={self._authority_file} passfile={self._password_file}"
        )
