<?php
// Logs in again and again: PDO and mysqli with what the agent answers.
function login(string $database): array {
    $token = trim(file_get_contents(getenv('LOCKSTEP_TOKEN_FILE')));
    $query = http_build_query(['secretId' => getenv('LOCKSTEP_SECRET'), 'database' => $database]);
    $with = stream_context_create(['http' => ['header' => "X-Aws-Parameters-Secrets-Token: $token"]]);
    return json_decode(file_get_contents(getenv('LOCKSTEP_AGENT') . "/lockstep/login?$query", false, $with), true);
}

$ca = getenv('LOCKSTEP_CA');
$ways = [
    'php-pdo' => function () use ($ca) {
        $at = login('ledger');
        $dsn = "pgsql:host={$at['host']};port={$at['port']};dbname={$at['dbname']};sslmode=verify-full;sslrootcert=$ca";
        return (new PDO($dsn, $at['username'], $at['password']))->query('SELECT session_user')->fetchColumn();
    },
    'php-mysqli' => function () use ($ca) {
        $at = login('orders');
        $connection = mysqli_init();
        $connection->ssl_set(null, null, $ca, null, null);
        // `localhost` would be a socket.
        $connection->real_connect('127.0.0.1', $at['username'], $at['password'], $at['dbname'], (int) $at['port'],
            null, MYSQLI_CLIENT_SSL | MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT);
        return explode('@', $connection->query('SELECT USER()')->fetch_column())[0];
    },
];
for (;;) {
    foreach ($ways as $name => $way) {
        try { echo "$name ok {$way()}\n"; } catch (Throwable $error) { echo "$name failed {$error->getMessage()}\n"; }
    }
    usleep(50_000);
}
