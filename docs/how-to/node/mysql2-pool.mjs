// A pool of `mysql2` whose new connections have the newest login: `const pool = await newPool('orders')`.
import mysql from 'mysql2';
import { ca, login, renewal, saidByServer } from './lockstep.mjs';

export async function newPool(database, { max = 10, maxLifetimeSeconds = 600, renewSeconds = 30, ...more } = {}) {
  const lifetime = maxLifetimeSeconds * 1000;
  const limits = { connectionLimit: max, maxIdle: max - 1, idleTimeout: lifetime, gracefulEnd: true };
  const ssl = { ca, verifyIdentity: true }; // else the host name in the certificate is not compared
  const pool = mysql.createPool({ ...(await login(database)), ssl, ...limits, ...more });
  const renew = renewal(pool.config.connectionConfig, database, renewSeconds);

  // mysql2 closes idle connections, but lets busy ones live for ever.
  const madeAt = new WeakMap();
  pool.on('connection', (connection) => madeAt.set(connection, Date.now()));
  const isOld = (connection) => Date.now() - madeAt.get(connection) > lifetime;

  // `query` and `execute` call this too.
  const getConnection = pool.getConnection.bind(pool);
  pool.getConnection = async (callback) => {
    await renew();
    const take = (mayAsk) => getConnection(async (error, connection) => {
      if (error && saidByServer(error) && mayAsk) {
        await renew(true);
        take(false);
      } else if (connection && isOld(connection)) {
        connection.end();
        take(mayAsk);
      } else callback(error, connection);
    });
    take(true);
  };
  return pool.promise();
}
