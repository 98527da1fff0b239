# Logs in again and again: DBD::Pg with the agent's pgpass, DBD::MariaDB with its my.cnf.
use strict;
use warnings;
use DBI;

$| = 1;
my $ca = $ENV{LOCKSTEP_CA};
my %ways = (
    'perl-pg' => sub {
        local $ENV{PGPASSFILE} = "$ENV{XDG_RUNTIME_DIR}/perl.pgpass";
        system('cp', $ENV{LOCKSTEP_PGPASS}, $ENV{PGPASSFILE}) == 0 or die "no file\n";
        open(my $file, '<', $ENV{PGPASSFILE}) or die "$!\n";
        my ($host, $port, undef, $user) = split /:/, <$file>;
        my $dsn = "dbi:Pg:host=$host;port=$port;dbname=$ENV{PGDATABASE};sslmode=verify-full;sslrootcert=$ca";
        my $on = DBI->connect($dsn, $user, undef, { RaiseError => 1, PrintError => 0 });
        return ($on->selectrow_array('SELECT session_user'))[0];
    },
    'perl-mariadb' => sub {
        my $tls = "mariadb_ssl=1;mariadb_ssl_ca_file=$ca;mariadb_ssl_verify_server_cert=1";
        my $dsn = "dbi:MariaDB:;host=127.0.0.1;mariadb_read_default_file=$ENV{LOCKSTEP_MY_CNF};$tls";
        my $on = DBI->connect($dsn, undef, undef, { RaiseError => 1, PrintError => 0 });
        return ($on->selectrow_array("SELECT SUBSTRING_INDEX(USER(), '\@', 1)"))[0];
    },
);
while (1) {
    for my $way (sort keys %ways) {
        my $user = eval { $ways{$way}->() };
        print defined $user ? "$way ok $user\n" : "$way failed " . ($@ =~ s/\n/ /gr) . "\n";
    }
    select(undef, undef, undef, 0.05);
}
