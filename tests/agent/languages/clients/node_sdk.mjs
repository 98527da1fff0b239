// Logs in again and again with what AWS's SDK for JavaScript reads each time.
import { readFileSync } from 'node:fs';
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';
import mysql from 'mysql2/promise';

const [client, ca] = [new SecretsManagerClient(), readFileSync(process.env.LOCKSTEP_CA)];
for (;;) {
  try {
    const { SecretString } = await client.send(new GetSecretValueCommand({ SecretId: process.env.LOCKSTEP_SECRET }));
    const { username: user, password, host, port } = JSON.parse(SecretString);
    const connection = await mysql.createConnection({ user, password, host, port, ssl: { ca, verifyIdentity: true } });
    const [[{ name }]] = await connection.query('SELECT USER() AS name');
    console.log('node-sdk', 'ok', name.split('@')[0]);
    await connection.end();
  } catch (error) { console.log('node-sdk', 'failed', error.message); }
}
