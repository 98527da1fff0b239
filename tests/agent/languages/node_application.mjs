// Logs in again and again with the package for Node.js; the ways to do it are the arguments.
import { setTimeout as pause } from 'node:timers/promises';
import { ca, login } from 'lockstep-agent-pools';
import { newPool as newMysqlPool } from 'lockstep-agent-pools/mysql2';
import { newPool as newPgPool } from 'lockstep-agent-pools/pg';
import mysql from 'mysql2/promise';
import pg from 'pg';

const wanted = process.argv.slice(2);
const lifetime = Number(process.env.POOL_LIFETIME_SECONDS);
const options = { max: 2, maxLifetimeSeconds: lifetime, renewSeconds: lifetime / 2 };
const [pgPool, mysqlPool] = [await newPgPool('ledger', options), await newMysqlPool('orders', options)];

const ways = {
  async 'pg-login'() {
    const client = new pg.Client({ ...(await login('ledger')), ssl: { ca } });
    await client.connect();
    try { return await pgUser(client); } finally { await client.end(); }
  },
  async 'mysql2-login'() {
    const connection = await mysql.createConnection({ ...(await login('orders')), ssl: { ca, verifyIdentity: true } });
    try { return await mysqlUser(connection); } finally { await connection.end(); }
  },
  'pg-pool': () => pgUser(pgPool),
  'mysql2-pool': () => mysqlUser(mysqlPool),
};
const pgUser = async (on) => (await on.query('SELECT session_user AS name, pg_sleep(0.02)')).rows[0].name;
const mysqlUser = async (on) => (await on.query('SELECT USER() AS name, SLEEP(0.02)'))[0][0].name.split('@')[0];

async function goOn(way) {
  for (;;) {
    try { console.log(way, 'ok', await ways[way]()); } catch (error) { console.log(way, 'failed', error.message); }
    if (!way.endsWith('pool')) await pause(50);
  }
}

// More at once than a pool has connections, so that none is ever idle.
const crowd = wanted.flatMap((way) => (way.endsWith('pool') ? [way, way, way, way] : [way]));
await Promise.all(crowd.map(goOn));
