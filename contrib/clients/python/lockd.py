"""A client of lockd: a Lockd is one connection, and owns what it gets."""
import os, re, selectors, socket, sys, threading, time

class Lost(Exception):
    """The connection is gone, and with it all that was held."""

class Refused(Exception):
    """Neither yes nor no: the server is full, shuts down, does not know us..."""

class Lockd:
    def __init__(self, server=None):
        token = None  # read before there is a connection that an error would leave open
        if os.environ.get("LOCKD_TOKEN_FILE"):
            with open(os.environ["LOCKD_TOKEN_FILE"]) as file:
                token = file.read().strip()
        scheme, _, place = (server or os.environ.get("LOCKD_SERVER") or "tcp://127.0.0.1:9999").partition("://")
        if scheme == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(place)
        else:
            host, _, port = place.rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), 5)
        self.replies = self.socket.makefile("rb")
        self.mutex, self.lost = threading.RLock(), threading.Event()  # mutex: one request at a time
        self.heard, self.dead_after = time.monotonic(), 5  # heard: when we sent what was answered last
        threading.Thread(target=self._watch, daemon=True).start()
        if token is not None:
            self._yes("auth " + token)
        # The server frees what we hold after so long without a word: we have to know before.
        self.dead_after = int(re.search(r"dead_peer_ms=(\d+)", self._yes("limits")[1])[1]) * 3 / 4000
        self.ask(f"iam {socket.gethostname()}:{os.path.basename(sys.argv[0])}:{os.getpid()}")

    def get(self, name, wait=0):
        """True if the lock is ours; False if it was somebody else's for wait seconds."""
        return self._take(f"gw {round(wait * 1000)} ", name, wait) > 0

    def get_shared(self, name, limit, wait=0):
        """How many hold it, with us; 0 if there was no room among limit for wait seconds."""
        return self._take(f"sgw {limit} {round(wait * 1000)} ", name, wait)

    def release(self, name):
        return self.ask("r " + name)[0] > 0

    def release_shared(self, name):
        return self.ask("sr " + name)[0] > 0

    def close(self):
        self.lost.set()
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes whoever reads
        except OSError:
            pass  # it has ended already

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ask(self, line, wait=0):
        """Sends a request whose reply is one line; returns that line's number and its text."""
        if "\n" in line:
            raise ValueError("a line break in a name")
        with self.mutex:
            sent, request, reply = time.monotonic(), line.encode(errors="surrogateescape") + b"\n", b""
            try:
                self.socket.settimeout(wait + max(1, self.heard + self.dead_after - sent))
                self.socket.sendall(request)
                reply = self.replies.readline()
            except OSError:
                pass  # reset, or no reply in time
            finally:
                if not reply.endswith(b"\n"):  # what comes late must not answer the next request
                    self.close()
            if self.lost.is_set():
                raise Lost("the connection to lockd is lost")
            self.heard = sent
        number, _, text = reply.decode(errors="replace").strip().partition(" ")
        return int(number), text

    def _yes(self, line):
        number, text = self.ask(line)
        if number < 1:
            self.close()
            raise Refused(text)
        return number, text

    def _take(self, request, name, wait):
        if not name.strip():
            raise ValueError("an empty name: most often a variable that is not set")
        number, text = self.ask(request + name, wait)
        if number < 1 and not text.startswith(("Lock Get Timeout:", "Shared Lock Get Timeout:")):
            raise Refused(text)
        return number

    def _watch(self):
        selector = selectors.DefaultSelector()
        selector.register(self.socket, selectors.EVENT_READ)
        while not self.lost.is_set():
            selector.select(max(0, self.heard + self.dead_after / 4 - time.monotonic()))
            with self.mutex:  # so nobody waits for a reply, and what can be read is the end
                if selector.select(0):
                    self.close()
                elif time.monotonic() >= self.heard + self.dead_after / 4:
                    try:
                        self.ask("ping")
                    except Lost:
                        pass
        self.socket.close()
