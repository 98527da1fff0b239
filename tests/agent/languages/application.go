// Logs in to both databases again and again, afresh and through a pool, and tells harness.py what came of it.
package main

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	"lockstep.invalid/agentdb"
)

var who = map[string]string{
	"orders": "SELECT SUBSTRING_INDEX(USER(), '@', 1)",
	"ledger": "SELECT session_user",
}

func main() {
	lifetime, err := time.ParseDuration(os.Getenv("POOL_LIFETIME_SECONDS") + "s")
	if err != nil {
		panic(err)
	}
	for _, way := range os.Args[1:] { // such as pool-orders
		kind, database, _ := strings.Cut(way, "-")
		pool := agentdb.Open(agentdb.Connector{
			Agent:     os.Getenv("LOCKSTEP_AGENT"),
			TokenFile: os.Getenv("LOCKSTEP_TOKEN_FILE"),
			SecretID:  os.Getenv("LOCKSTEP_SECRET"),
			Database:  database,
			CAFile:    os.Getenv("LOCKSTEP_CA"),
		}, lifetime)
		if kind == "fresh" {
			pool.SetMaxIdleConns(-1)
		}
		go keepLoggingIn(way, pool, who[database])
	}
	select {}
}

func keepLoggingIn(way string, pool *sql.DB, query string) {
	for {
		var user string
		if err := pool.QueryRow(query).Scan(&user); err != nil {
			fmt.Println(way, "failed", err)
		} else {
			fmt.Println(way, "ok", user)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
