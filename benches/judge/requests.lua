-- What wrk sends: `wrk -s requests.lua URL -- HEADS DEPTH`, with DEPTH requests at once. HEADS is
-- "small", "browser" for browser-like ones, or "close" for a connection for each request.

-- So many heads differ. They are sent one after the other, over all connections.
local VARIANTS = 64

local function small() return wrk.format() end

local function close()
  return wrk.format(nil, wrk.path, { ["Connection"] = "close" })
end

-- The cookie and the trace differ from head to head.
local function browser(variant)
  return table.concat({
    "GET " .. wrk.path .. " HTTP/1.1",
    "Host: " .. wrk.headers["Host"],
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
      .. "Chrome/140.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9",
    string.format("Cookie: session=%032x; theme=dark", variant * 0x9e3779),
    string.format("traceparent: 00-%032x-%016x-01", variant * 0x7f4a7c, variant * 0x15f39c),
    "\r\n",
  }, "\r\n")
end

local batches, next_batch = {}, 0

init = function(args)
  local head = ({ small = small, close = close, browser = browser })[args[1]]
  local depth = tonumber(args[2])
  for batch = 0, VARIANTS - 1 do
    local heads = {}
    for i = 1, depth do heads[i] = head((batch * depth + i) % VARIANTS) end
    batches[batch] = table.concat(heads)
  end
end

request = function()
  next_batch = (next_batch + 1) % VARIANTS
  return batches[next_batch]
end
