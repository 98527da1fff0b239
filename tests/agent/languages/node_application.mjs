// Logs in again and again with the recipes for Node.js: their folder, and the ways to do it, are the arguments.
import { setTimeout as pause } from 'node:timers/promises';
import { createRequire } from 'node:module';

const [recipes, ...wanted] = process.argv.slice(2);
const { ca, login } = await import(`${recipes}/lockstep.mjs`);
const require = createRequire(`${recipes}/`);
const [pg, mysql] = [require('pg'), require('mysql2/promise')];

const lifetime = Number(process.env.POOL_LIFETIME_SECONDS);
const options = { max: 2, maxLifetimeSeconds: lifetime, renewSeconds: lifetime / 2 };
const pgPool = await (await import(`${recipes}/pg-pool.mjs`)).newPool('ledger', options);
const mysqlPool = await (await import(`${recipes}/mysql2-pool.mjs`)).newPool('orders', options);

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
