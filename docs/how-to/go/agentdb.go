// Package agentdb opens pools whose new connections log in with what `lockstep agent` serves at that moment.
package agentdb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
)

// Connector logs in to one database of a credential.
type Connector struct {
	Agent, TokenFile, SecretID, Database, CAFile string
}

// Open makes a pool; lifetime is shorter than the plan's overlap, so no connection outlives the login it was made with.
func Open(connector Connector, lifetime time.Duration) *sql.DB {
	pool := sql.OpenDB(connector)
	pool.SetConnMaxLifetime(lifetime)
	return pool
}

// Connect is what sql.DB calls for a new connection.
func (c Connector) Connect(ctx context.Context) (driver.Conn, error) {
	login, err := c.ask(ctx, false)
	if err != nil {
		return nil, err
	}
	connection, err := c.logIn(ctx, login)
	if isRefused(err) {
		slog.Warn("login refused, reading anew", "generation", login["generation"])
		if login, err = c.ask(ctx, true); err == nil {
			return c.logIn(ctx, login)
		}
	}
	return connection, err
}

// Driver has no answer: the login says which driver it is.
func (c Connector) Driver() driver.Driver { return nil }

func (c Connector) ask(ctx context.Context, refreshNow bool) (login map[string]string, err error) {
	token, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return nil, err
	}
	query := url.Values{"secretId": {c.SecretID}, "database": {c.Database}, "refreshNow": {strconv.FormatBool(refreshNow)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Agent+"/lockstep/login?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-Aws-Parameters-Secrets-Token", strings.TrimSpace(string(token)))
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("lockstep agent gave no login: %s", answer.Status)
	}
	err = json.NewDecoder(answer.Body).Decode(&login)
	return login, err
}

func (c Connector) logIn(ctx context.Context, login map[string]string) (driver.Conn, error) {
	open := c.mysql
	if login["engine"] == "postgresql" {
		open = c.postgres
	}
	connector, err := open(login)
	if err != nil {
		return nil, err
	}
	return connector.Connect(ctx)
}

func (c Connector) postgres(login map[string]string) (driver.Connector, error) {
	verified := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {c.CAFile}}
	at := url.URL{Scheme: "postgres", Host: net.JoinHostPort(login["host"], login["port"]), Path: login["dbname"]}
	at.User, at.RawQuery = url.UserPassword(login["username"], login["password"]), verified.Encode()
	return pq.NewConnector(at.String())
}

func (c Connector) mysql(login map[string]string) (driver.Connector, error) {
	certificate, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	config, authorities := mysql.NewConfig(), x509.NewCertPool()
	authorities.AppendCertsFromPEM(certificate)
	config.TLS = &tls.Config{RootCAs: authorities, ServerName: login["host"]}
	config.User, config.Passwd, config.DBName = login["username"], login["password"], login["dbname"]
	config.Net, config.Addr = "tcp", net.JoinHostPort(login["host"], login["port"])
	return mysql.NewConnector(config)
}

// isRefused goes by the stage and not by the code, since poolers have words of their own, such as 08P01 and XX000.
// Whatever the other side says of a login costs one look at the stores, and the agent looks once a second at most.
func isRefused(err error) bool {
	var byPostgres *pq.Error
	var byMySQL *mysql.MySQLError
	return errors.As(err, &byPostgres) || errors.As(err, &byMySQL)
}
