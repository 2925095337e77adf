<?php
// A client of lockd: a Lockd is one connection, and owns what it gets, for as
// long as the object lives. PHP 8.0 or later, no extension.

/** The connection is gone, and with it all that was held. */
class LockdLost extends RuntimeException {}

/** Neither yes nor no: the server is full, shuts down, does not know us... */
class LockdRefused extends RuntimeException {}

final class Lockd
{
    private $socket;
    private float $heard = 0;     // when we sent what was answered last
    private float $patience = 5;  // for a reply, in seconds

    public function __construct(?string $server = null)
    {
        $server ??= getenv('LOCKD_SERVER') ?: 'tcp://127.0.0.1:9999';
        $this->socket = @stream_socket_client($server, $code, $error, $this->patience);
        if (!$this->socket) {
            throw new LockdLost("cannot connect to $server: $error");
        }
        if ($file = getenv('LOCKD_TOKEN_FILE')) {
            $this->yes('auth ' . trim(file_get_contents($file)));
        }
        // The server frees what we hold after so long without a word: we have to know before.
        preg_match('/dead_peer_ms=(\d+)/', $this->yes('limits')[1], $limits);
        $this->patience = $limits[1] / 4000;
        $this->ask('iam ' . gethostname() . ':' . basename($_SERVER['SCRIPT_NAME'] ?? 'php') . ':' . getmypid());
    }

    /** True if the lock is ours; false if it was somebody else's for $wait seconds. */
    public function get(string $name, float $wait = 0): bool
    {
        return $this->take('gw ' . round($wait * 1000), $name, $wait) > 0;
    }

    /** How many hold it, with us; 0 if there was no room among $limit for $wait seconds. */
    public function getShared(string $name, int $limit, float $wait = 0): int
    {
        return $this->take("sgw $limit " . round($wait * 1000), $name, $wait);
    }

    public function release(string $name): bool
    {
        return $this->ask("r $name")[0] > 0;
    }

    public function releaseShared(string $name): bool
    {
        return $this->ask("sr $name")[0] > 0;
    }

    /** Throws LockdLost if what we held is lost. To be called between steps of the work, every 5 s. */
    public function check(): void
    {
        $read = [$this->socket];
        $none = null;
        // Nothing was asked, so what can be read is the end.
        if (!$this->socket || stream_select($read, $none, $none, 0) || hrtime(true) / 1e9 >= $this->heard + $this->patience) {
            $this->ask('ping');
        }
    }

    /** Sends a request whose reply is one line; returns that line's number and its text. */
    public function ask(string $line, float $wait = 0): array
    {
        if (str_contains($line, "\n")) {
            throw new InvalidArgumentException('a line break in a name');
        }
        $reply = '';
        $sent = hrtime(true) / 1e9;
        if ($this->socket && @fwrite($this->socket, "$line\n") === strlen($line) + 1) {
            $until = $wait + $this->patience;
            stream_set_timeout($this->socket, (int) $until, (int) (fmod($until, 1) * 1e6));
            $reply = (string) fgets($this->socket);
        }
        if (!str_ends_with($reply, "\n")) {
            $this->socket = null;  // what comes late must not answer the next request
            throw new LockdLost('the connection to lockd is lost');
        }
        $this->heard = $sent;
        [$number, $text] = explode(' ', rtrim($reply), 2);
        return [(int) $number, $text];
    }

    private function yes(string $line): array
    {
        [$number, $text] = $this->ask($line);
        return $number > 0 ? [$number, $text] : throw new LockdRefused($text);
    }

    private function take(string $request, string $name, float $wait): int
    {
        if (trim($name) === '') {
            throw new InvalidArgumentException('an empty name: most often a variable that is not set');
        }
        [$number, $text] = $this->ask("$request $name", $wait);
        if ($number < 1 && !preg_match('/^(Shared )?Lock Get Timeout: /', $text)) {
            throw new LockdRefused($text);
        }
        return $number;
    }
}
