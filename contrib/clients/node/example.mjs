// example.mjs skip|wait|count NAME N SECONDS: works for SECONDS under the lock NAME.
import { setTimeout as sleep } from "node:timers/promises";
import { Lockd, Lost } from "./lockd.mjs";

const [way, name, n, seconds] = process.argv.slice(2);
const lockd = await Lockd.connect();
const got = await {
  skip: () => lockd.get(name), // get it, or let whoever has it do the work
  wait: () => lockd.get(name, n * 1000), // wait for it, N seconds at most
  count: () => lockd.getShared(name, n), // be one of N at most
}[way]();

if (got) {
  console.log("got it", Number(got));
  try {
    await sleep(seconds * 1000, undefined, { signal: lockd.signal }); // the work
    console.log("done");
  } catch {
    if (lockd.signal.reason instanceof Lost) console.log("lost"); // somebody else may have the lock now
  }
} else {
  console.log("not got");
}
lockd.close(); // releases all
