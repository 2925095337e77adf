-- Asks lockd for a unit of a rate, for HAProxy 2.6 and later (with Lua, as distributions
-- build it).
--
--   http-request set-var(txn.lockd_key) src
--   http-request lua.lockd_take RATE LIMIT WINDOW
--
-- takes a unit of the rate RATE:KEY, LIMIT units in WINDOW (5 1m), and sets
--
--   txn.lockd              allowed, denied, down (lockd is not there, or full) or error
--                          (it is there, and refuses the question: the log of HAProxy
--                          has its status)
--   txn.lockd_retry_after  seconds, if denied
--   txn.lockd_ratelimit    what RateLimit and
--   txn.lockd_policy       RateLimit-Policy are for the client
--
-- What it asks goes through `listen lockd` of haproxy.cfg, which has the server's address.

local down = { [0] = true, [502] = true, [503] = true, [504] = true }

-- escape makes any bytes a part of a query. A key may be what a client has sent.
local function escape(text)
  return (text:gsub("[^%w%-._~]", function(c) return string.format("%%%02X", c:byte()) end))
end

core.register_action("lockd_take", { "http-req" }, function(txn, rate, limit, window)
  local name = rate .. ":" .. tostring(txn:get_var("txn.lockd_key") or "")
  local answer = core.httpclient():get{
    url = "http://localhost/api/v1/rates/take?name=" .. escape(name) .. "&limit=" .. escape(limit) .. "&window=" .. escape(window),
    dst = "abns@lockd",
    timeout = 2000,
  }
  local status = answer and answer.status or 0
  local function header(field)
    local values = answer and answer.headers and answer.headers[field]
    return values and values[0] or ""
  end
  local outcome = "error"
  if status == 200 then
    outcome = "allowed"
  elseif status == 429 then
    outcome = "denied"
  elseif down[status] then
    outcome = "down"
  end
  if outcome == "error" then
    core.Alert("lockd answers " .. status .. ": " .. (answer.body or ""))
  end
  txn:set_var("txn.lockd", outcome)
  txn:set_var("txn.lockd_retry_after", header("retry-after"))
  txn:set_var("txn.lockd_ratelimit", header("ratelimit"))
  txn:set_var("txn.lockd_policy", header("ratelimit-policy"))
end, 3)
