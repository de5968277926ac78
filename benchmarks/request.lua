-- wrk -s request.lua URL -- BODY_FILE MEDIA: one fixed POST, and the figures as one line of JSON.

function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.method = "POST"
   wrk.body = file:read("*a")
   wrk.headers["Content-Type"] = args[2]
   wrk.headers["Accept"] = args[2]
   file:close()
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      'result {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
