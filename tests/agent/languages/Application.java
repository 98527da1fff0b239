import com.zaxxer.hikari.HikariDataSource;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Map;
import javax.sql.DataSource;
import lockstep.agent.AgentDataSource;

/** Logs in to both databases again and again, afresh and through a pool, and tells harness.py what came of it. */
final class Application {
    private static final Map<String, String> HERE = System.getenv();
    private static final Map<String, String> WHO = Map.of(
            "orders", "SELECT SUBSTRING_INDEX(USER(), '@', 1)", "ledger", "SELECT session_user");

    /** Takes ways such as `pool-orders`. */
    public static void main(String[] ways) {
        for (var way : ways) {
            var database = way.substring(way.indexOf('-') + 1);
            var source = new AgentDataSource(
                    HERE.get("LOCKSTEP_AGENT"),
                    Path.of(HERE.get("LOCKSTEP_TOKEN_FILE")),
                    HERE.get("LOCKSTEP_SECRET"),
                    database,
                    Path.of(HERE.get("LOCKSTEP_CA")));
            new Thread(() -> {
                var logins = way.startsWith("pool-") ? shortened(source) : source;
                keepLoggingIn(way, logins, WHO.get(database));
            }).start();
        }
    }

    /** HikariCP takes a lifetime below 30 seconds from a running pool only. */
    private static HikariDataSource shortened(AgentDataSource source) {
        var pool = source.pool(Duration.ofMinutes(11));
        pool.setMaxLifetime(1_000 * Long.parseLong(HERE.get("POOL_LIFETIME_SECONDS")));
        pool.setMinimumIdle(1);
        pool.getHikariPoolMXBean().softEvictConnections();
        return pool;
    }

    private static void keepLoggingIn(String way, DataSource source, String who) {
        while (true) {
            try (var connection = source.getConnection(); var statement = connection.createStatement();
                    var rows = statement.executeQuery(who)) {
                rows.next();
                System.out.println(way + " ok " + rows.getString(1));
                Thread.sleep(20);
            } catch (SQLException | InterruptedException error) {
                System.out.println(way + " failed " + error);
            }
        }
    }
}
