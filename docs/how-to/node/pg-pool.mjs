// A pool of `pg` whose new connections have the newest login: `const pool = await newPool('ledger')`.
import pg from 'pg';
import { ca, login, renewal, saidByServer } from './lockstep.mjs';

class Pool extends pg.Pool {
  // `query` calls this too. The username may change, so `password: async () => …` would not do.
  connect(callback) {
    const client = this.renew()
      .then(() => super.connect())
      .catch(async (error) => {
        if (!saidByServer(error)) throw error;
        await this.renew(true);
        return super.connect();
      });
    if (!callback) return client;
    client.then((client) => callback(undefined, client, client.release), callback);
  }
}

export async function newPool(database, { maxLifetimeSeconds = 600, renewSeconds = 30, ...more } = {}) {
  const pool = new Pool({ ...(await login(database)), ssl: { ca }, maxLifetimeSeconds, ...more });
  pool.renew = renewal(pool.options, database, renewSeconds);
  pool.on('error', (error) => console.error(error.message)); // an idle connection broke; without this Node.js would end
  return pool;
}
