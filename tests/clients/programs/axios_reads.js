// Reads and a write as a small script does them with axios: axios_reads.js URL TOKEN PACKAGE
"use strict";

const [url, token, name] = process.argv.slice(2);
const axios = require(name).create({ validateStatus: () => true });

const tell = (reply) => {
  console.log(JSON.stringify([reply.status, reply.headers["content-type"], reply.data]));
  return reply.data;
};

async function main() {
  tell(await axios.get(`${url}/v25.0/me`, { params: { fields: "id,name", access_token: token } }));
  let page = tell(await axios.get(`${url}/v25.0/act_1/campaigns`, { params: { limit: 4, access_token: token } }));
  while (page.paging && page.paging.next) page = tell(await axios.get(page.paging.next));
  for (let each = 0; each < 2; each++)
    tell(await axios.get(`${url}/v25.0/1001`, { headers: { Authorization: `Bearer ${token}` } }));
  tell(await axios.get(`${url}/v25.0/404001`, { params: { access_token: token } }));
  tell(await axios.post(`${url}/v25.0/1001`, { name: "new", access_token: token }));
}

main();
