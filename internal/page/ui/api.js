// Asking the server: JSON by GET and POST, and the stream of events.
//
// A token, if one is needed, is kept for this tab (sessionStorage) and sent in a
// header, which no other site can make a browser do. EventSource can't send one, so
// the stream is read by fetch.

const root = new URL("api/v1/", document.baseURI);
const kept = "lockd-token";
const patience = 15_000; // for a reply; and for the next line of events

export const token = {
  get: () => sessionStorage.getItem(kept) ?? "",
  set: (value) => value === "" ? sessionStorage.removeItem(kept) : sessionStorage.setItem(kept, value),
};

// A Failure is a reply that says no, or none at all (status 0).
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, { signal, ...init } = {}) {
  const headers = { ...init.headers };
  if (token.get() !== "") headers.Authorization = `Bearer ${token.get()}`;
  let reply;
  try {
    reply = await fetch(new URL(path, root), { ...init, headers, signal, cache: "no-store", redirect: "error", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, error.name === "TimeoutError" ? "The server does not answer." : "The server cannot be reached.");
  }
  if (reply.ok) return reply;
  let message = `The server replied ${reply.status}.`;
  try {
    const text = await reply.text();
    message = text.startsWith("{") ? JSON.parse(text).error ?? message : text.trim() || message;
  } catch {
    // The number has to do.
  }
  throw new Failure(reply.status, message);
}

// get asks for JSON. Parameters that are empty are left out.
export async function get(path, parameters = {}, signal = undefined) {
  const query = Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined && value !== null)
    .map(([key, value]) => `${key}=${value instanceof Object ? value.id : encodeURIComponent(value)}`).join("&");
  const limit = AbortSignal.timeout(patience);
  const reply = await ask(query ? `${path}?${query}` : path, { signal: signal ? AbortSignal.any([signal, limit]) : limit });
  return json(reply);
}

export async function post(path, body = {}) {
  const reply = await ask(path, {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
    signal: AbortSignal.timeout(patience),
  });
  return json(reply);
}

async function json(reply) {
  try {
    return await reply.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The server's reply has broken off.");
  }
}

// The path of a lock. A browser takes the names . and .. for steps in the path,
// however they are encoded; so these are asked for as a parameter.
export function lockPath(name) {
  return name.id === "." || name.id === ".." ? `locks/?name=${name.id.replaceAll(".", "%2E")}` : `locks/${name.id}`;
}

export const clientPath = (address) => `clients/${encodeURIComponent(address)}`;

// follow reads the stream of events and tells of each, until it ends: by the
// signal, by the server, or since nothing came for too long.
export async function follow(signal, tell) {
  const silence = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(new DOMException("silence", "TimeoutError")), patience);
  };
  heard();
  try {
    const reply = await ask("events", { signal: AbortSignal.any([signal, silence.signal]), headers: { Accept: "text/event-stream" } });
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", event = "", data = [];
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.map((l) => l.replace(/\r$/, ""))) {
        if (line === "") {
          if (data.length) tell(event || "message", JSON.parse(data.join("\n")));
          event = "";
          data = [];
        } else if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      }
    }
  } finally {
    clearTimeout(timer);
  }
}
