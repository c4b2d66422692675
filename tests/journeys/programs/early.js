// Uploads three megabytes to the first URL, then reads the second, on an agent that keeps connections.
const http = require("node:http");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function ask(url, method, body) {
  return new Promise((resolve) => {
    const call = http.request(url, { method, agent, headers: body ? { "Content-Length": body.length } : {} }, (reply) => {
      let text = "";
      reply.on("data", (piece) => (text += piece));
      reply.on("end", () => resolve(`${reply.statusCode} ${text}`));
    });
    call.on("error", (error) => resolve(`error ${error.code}`));
    call.end(body);
  });
}

(async () => {
  console.log(await ask(process.argv[2], "POST", Buffer.alloc(3000000, 0xc3)));
  console.log(await ask(process.argv[3], "GET"));
  agent.destroy();
})();
