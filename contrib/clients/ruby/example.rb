# example.rb skip|wait|count NAME N SECONDS: works for SECONDS under the lock NAME.
require_relative "lockd"

way, name, n, seconds = ARGV
$stdout.sync = true
lockd = Lockd.new
begin
  got = case way
        when "skip" then lockd.get(name) # get it, or let whoever has it do the work
        when "wait" then lockd.get(name, wait: n.to_f) # wait for it, N seconds at most
        when "count" then lockd.get_shared(name, limit: n.to_i) # be one of N at most
        end
  abort "not got" if !got || got == 0
  puts "got it #{got == true ? 1 : got}"

  (seconds.to_f * 10).ceil.times do
    sleep 0.1 # a step of the work
    abort "lost" if lockd.lost? # somebody else may have the lock now
  end
ensure
  lockd.close # releases all, whatever ends the work
end
puts "done"
