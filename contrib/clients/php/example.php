<?php
// example.php skip|wait|count NAME N SECONDS: works for SECONDS under the lock NAME.
require __DIR__ . '/Lockd.php';

[, $way, $name, $n, $seconds] = $argv;
$lockd = new Lockd();
$got = match ($way) {
    'skip' => $lockd->get($name),                   // get it, or let whoever has it do the work
    'wait' => $lockd->get($name, (float) $n),       // wait for it, N seconds at most
    'count' => $lockd->getShared($name, (int) $n),  // be one of N at most
};
if (!$got) {
    exit("not got\n");
}
echo 'got it ', (int) $got, "\n";

try {
    for ($end = microtime(true) + $seconds; microtime(true) < $end;) {
        usleep(100000);  // a step of the work
        $lockd->check();
    }
} catch (LockdLost) {
    exit("lost\n");  // somebody else may have the lock now
}
unset($lockd);  // releases all
echo "done\n";
