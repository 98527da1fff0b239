# Logs in again and again: pg and mysql2 with what the agent answers.
require 'json'
require 'mysql2'
require 'net/http'
require 'pg'

$stdout.sync = true
CA = ENV.fetch('LOCKSTEP_CA')

def login(database)
  query = URI.encode_www_form(secretId: ENV.fetch('LOCKSTEP_SECRET'), database:)
  token = File.read(ENV.fetch('LOCKSTEP_TOKEN_FILE')).strip
  uri = URI("#{ENV.fetch('LOCKSTEP_AGENT')}/lockstep/login?#{query}")
  JSON.parse(Net::HTTP.get(uri, { 'X-Aws-Parameters-Secrets-Token' => token }))
end

WAYS = {
  'ruby-pg' => lambda {
    at = login('ledger')
    where = { host: at['host'], port: at['port'], dbname: at['dbname'], sslmode: 'verify-full', sslrootcert: CA }
    PG.connect(user: at['username'], password: at['password'], **where) { |c| c.exec('SELECT session_user').getvalue(0, 0) }
  },
  'ruby-mysql2' => lambda {
    at = login('orders')
    where = { host: '127.0.0.1', port: at['port'].to_i, database: at['dbname'], sslca: CA, sslverify: true }
    client = Mysql2::Client.new(username: at['username'], password: at['password'], **where)
    begin client.query('SELECT USER() AS name').first['name'].split('@').first ensure client.close end
  }
}.freeze

loop do
  WAYS.each { |name, way| puts "#{name} ok #{way.call}" rescue puts "#{name} failed #{$!.message}" }
  sleep 0.05
end
