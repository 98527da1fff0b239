package lockstep.agent;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.net.URI;
import java.net.URLEncoder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.sql.SQLTransientConnectionException;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.logging.Logger;
import javax.sql.DataSource;
import org.slf4j.LoggerFactory;

/** Each new connection logs in with what `lockstep agent` serves at that moment. */
public record AgentDataSource(String agent, Path tokenFile, String secretId, String database, Path caFile)
        implements DataSource {

    /** What drivers say where the other side has said nothing. */
    private static final Set<String> ON_THE_WAY = Set.of("08000", "08001", "08003", "08004", "08006", "08S01");

    /** A pool; `lifetime` is shorter than the plan's overlap, so no connection outlives the login it was made with. */
    public HikariDataSource pool(Duration lifetime) {
        var config = new HikariConfig();
        config.setDataSource(this);
        config.setMaxLifetime(lifetime.toMillis());
        return new HikariDataSource(config);
    }

    @Override
    public Connection getConnection() throws SQLException {
        var login = ask(false);
        try {
            return logIn(login);
        } catch (SQLException error) {
            // By the stage and not by the code, since poolers have words of their own, such as 08P01 and XX000. Whatever the
            // other side says of a login costs one look at the stores, and the agent looks once a second at most.
            if (error.getSQLState() == null || ON_THE_WAY.contains(error.getSQLState())) throw error;
            LoggerFactory.getLogger(getClass()).warn("login of generation {} refused, reading anew", login.generation);
            return logIn(ask(true));
        }
    }

    private Login ask(boolean refreshNow) throws SQLException {
        var query = "?secretId=%s&database=%s&refreshNow=%s"
                .formatted(URLEncoder.encode(secretId, UTF_8), URLEncoder.encode(database, UTF_8), refreshNow);
        try {
            var request = URI.create(agent + "/lockstep/login" + query).toURL().openConnection();
            request.setRequestProperty("X-Aws-Parameters-Secrets-Token", Files.readString(tokenFile).strip());
            request.setConnectTimeout(5_000);
            request.setReadTimeout(10_000);
            try (var answer = new InputStreamReader(request.getInputStream(), UTF_8)) {
                return new Gson().fromJson(answer, Login.class);
            }
        } catch (IOException error) {
            throw new SQLTransientConnectionException("lockstep agent gave no login", "08001", error);
        }
    }

    private Connection logIn(Login login) throws SQLException {
        var properties = new Properties();
        properties.putAll(switch (login.engine) {
            case "postgresql" -> Map.of("sslmode", "verify-full", "sslrootcert", caFile.toString());
            // Connector/J 3 reads sslMode, 2.7 useSsl; either ignores what it does not know.
            case "mariadb" -> Map.of("sslMode", "verify-full", "useSsl", "true", "serverSslCert", caFile.toString());
            default -> throw new SQLException("no driver for " + login.engine);
        });
        properties.putAll(Map.of("user", login.username, "password", login.password));
        var url = "jdbc:%s://%s:%s/%s".formatted(login.engine, login.host, login.port, login.dbname);
        return DriverManager.getConnection(url, properties);
    }

    private static final class Login {
        String username, password, engine, host, port, dbname, generation;
    }

    // What else a DataSource must have; with Spring, extend AbstractDataSource instead.

    @Override
    public Connection getConnection(String username, String password) throws SQLException {
        throw new SQLFeatureNotSupportedException("the login is the agent's");
    }

    @Override
    public Logger getParentLogger() throws SQLFeatureNotSupportedException {
        throw new SQLFeatureNotSupportedException("it logs by SLF4J");
    }

    @Override public int getLoginTimeout() { return DriverManager.getLoginTimeout(); }
    @Override public void setLoginTimeout(int seconds) { DriverManager.setLoginTimeout(seconds); }
    @Override public PrintWriter getLogWriter() { return null; }
    @Override public void setLogWriter(PrintWriter writer) {}
    @Override public boolean isWrapperFor(Class<?> type) { return type.isInstance(this); }
    @Override public <T> T unwrap(Class<T> type) { return type.cast(this); }
}
