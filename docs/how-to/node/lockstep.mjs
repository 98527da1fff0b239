// The login that `lockstep agent` serves, for the pools beside this file.
import { readFileSync } from 'node:fs';

const {
  LOCKSTEP_AGENT = 'http://127.0.0.1:2773',
  LOCKSTEP_TOKEN_FILE = '/run/lockstep/agent-token',
  LOCKSTEP_SECRET,
  LOCKSTEP_CA,
} = process.env;

/** The authority that signs the databases' certificates; undefined: those that Node.js knows. */
export const ca = LOCKSTEP_CA && readFileSync(LOCKSTEP_CA);

/** The newest login to a database of the plan; `refreshNow` lets the agent read the stores first. */
export async function login(database, refreshNow = false) {
  const query = new URLSearchParams({ secretId: LOCKSTEP_SECRET, database, refreshNow });
  const token = readFileSync(LOCKSTEP_TOKEN_FILE, 'utf8').trim();
  const answer = await fetch(`${LOCKSTEP_AGENT}/lockstep/login?${query}`, {
    headers: { 'X-Aws-Parameters-Secrets-Token': token },
    signal: AbortSignal.timeout(10_000),
  });
  if (!answer.ok) throw new Error(`lockstep agent: ${answer.status} ${await answer.text()}`);
  const { username, password, host, port, dbname } = await answer.json();
  return { user: username, password, host, port: Number(port), database: dbname };
}

/**
 * Whether a login ended by what the other side said, in whatever words: poolers have their own, such as 08P01 and XX000.
 * It costs one look at the stores, and the agent looks once a second at most.
 */
export const saidByServer = ({ severity, sqlState }) => Boolean(severity ?? sqlState);

/** Renews the login in a pool's options, if it was asked for some time ago, or was refused. */
export function renewal(options, database, seconds) {
  let askedAt = Date.now();
  return async (refused = false) => {
    if (refused) console.error(`the login to ${database} was refused; asking the agent again`);
    else if (Date.now() - askedAt < seconds * 1000) return;
    askedAt = Date.now();
    try {
      Object.assign(options, await login(database, refused));
    } catch (error) {
      console.error(error.message); // The login in use goes on to work for an overlap.
    }
  };
}
