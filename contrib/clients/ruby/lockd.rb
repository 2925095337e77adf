# A client of lockd: a Lockd is one connection, and owns what it gets.
require "io/wait"
require "monitor"
require "socket"

class Lockd
  class Lost < StandardError; end # the connection is gone, and with it all that was held
  class Refused < StandardError; end # neither yes nor no: the server is full, shuts down, does not know us...

  def initialize(server = ENV.fetch("LOCKD_SERVER", "tcp://127.0.0.1:9999"))
    token_file = ENV["LOCKD_TOKEN_FILE"].to_s
    token = File.read(token_file).strip unless token_file.empty? # before there is a connection that an error would leave open
    scheme, place = server.split("://", 2)
    host, _, port = place.rpartition(":")
    @socket = scheme == "unix" ? UNIXSocket.new(place) : Socket.tcp(host.delete("[]"), port, connect_timeout: 5)
    @monitor, @buffer, @lost = Monitor.new, String.new, false
    @heard, @dead_after = now, 5 # heard: when we sent what was answered last
    Thread.new { watch }
    yes("auth " + token) if token
    # The server frees what we hold after so long without a word: we have to know before.
    @dead_after = yes("limits")[1][/dead_peer_ms=(\d+)/, 1].to_i * 3 / 4000.0
    ask("iam #{Socket.gethostname}:#{File.basename($0)}:#{Process.pid}")
  end

  def lost? = @lost

  # True if the lock is ours; false if it was somebody else's for wait seconds.
  def get(name, wait: 0) = take("gw #{(wait * 1000).round}", name, wait) > 0

  # How many hold it, with us; 0 if there was no room among limit for wait seconds.
  def get_shared(name, limit:, wait: 0) = take("sgw #{limit} #{(wait * 1000).round}", name, wait)

  def release(name) = ask("r #{name}")[0] > 0

  def release_shared(name) = ask("sr #{name}")[0] > 0

  def close
    @lost = true
    @socket.shutdown rescue nil # wakes whoever reads
  end

  # Sends a request whose reply is one line; returns that line's number and its text.
  def ask(line, wait: 0)
    raise ArgumentError, "a line break in a name" if line.include?("\n")
    @monitor.synchronize do
      sent, reply = now, nil
      begin
        raise Lost, "the connection to lockd is lost" if @lost
        @socket.write(line + "\n")
        reply = read_line(sent + wait + [1, @heard + @dead_after - sent].max)
      rescue SystemCallError, IOError
        raise Lost, "the connection to lockd is lost"
      ensure
        close unless reply # what comes late must not answer the next request
      end
      @heard = sent
      number, text = reply.force_encoding("UTF-8").scrub.chomp.split(" ", 2)
      [number.to_i, text]
    end
  end

  private

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  def read_line(deadline)
    until (reply = @buffer.slice!(/\A.*\n/))
      @socket.wait_readable([0, deadline - now].max) or raise IOError, "no reply"
      @buffer << @socket.readpartial(4096)
    end
    reply
  end

  def yes(line)
    number, text = ask(line)
    return [number, text] if number > 0
    close
    raise Refused, text
  end

  def take(request, name, wait)
    raise ArgumentError, "an empty name: most often a variable that is not set" if name.strip.empty?
    number, text = ask("#{request} #{name}", wait: wait)
    raise Refused, text if number < 1 && !text.match?(/\A(Shared )?Lock Get Timeout: /)
    number
  end

  def watch
    until @lost
      @socket.wait_readable([0, @heard + @dead_after / 4.0 - now].max)
      @monitor.synchronize do # so nobody waits for a reply, and what can be read is the end
        if @socket.wait_readable(0)
          close
        elsif now >= @heard + @dead_after / 4.0
          ask("ping")
        end
      rescue Lost
        # so the loop ends
      end
    end
    @socket.close
  end
end
